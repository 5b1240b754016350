"""Carries out a plan of `demand`: operators compute only the part of their results that is read."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.edit import add_constant, add_node, substitute, take_name
from paraexport.graph.naming import beside
from paraexport.graph.query import const, operands, result
from paraexport.graph.shapes import Size, named_sizes
from paraexport.rewrite.patterns.demand import AxisPart, DemandPlan, Request, Requests, Root


def narrow_graph(graph: ir.Graph, plan: DemandPlan) -> int:
    """Change the graph as planned, and return how many roots were removed."""
    narrowing = Narrowing()
    moved = [root for root in plan.roots if plan.moves(root)]
    for node in tuple(graph):
        if node in moved:
            narrowing.remove_root(node, plan.roots[node])
        elif len(node.outputs) == 1 and result(node) in plan.parts:
            narrowing.narrow(node, plan.parts[result(node)], dict(plan.requests_of(node)))
    return len(moved)


class Narrowing:
    """The walk from the first node to the last, with the parts that exist so far."""

    def __init__(self) -> None:
        self.parts: dict[tuple[ir.Value, Request], ir.Value] = {}

    def narrow(self, node: ir.Node, part: AxisPart, requests: Requests) -> None:
        """Make `node` compute only `part` of its result, in place."""
        value = result(node)
        for index, request in requests.items():
            if request is not None:
                node.replace_input_with(index, self.provide(node, require_input(node, index), request))
        if None in requests.values():
            # A Concat: the part lies inside one input, and the others are not read. That input replaces the node.
            (kept,) = (
                require_input(node, index) for index in range(len(node.inputs)) if requests.get(index, ()) is not None
            )
            self.parts[value, part] = kept
        else:
            value.shape = ir.Shape(shortened(value, part))
            self.parts[value, part] = value

    def provide(self, node: ir.Node, value: ir.Value, request: Request) -> ir.Value:
        """The part of `value` that `node` reads: the narrowed value, a new constant, or a cut from the whole value."""
        assert node.graph is not None
        if (value, request) not in self.parts:
            array = const(value)
            if isinstance(request, AxisPart) and array is None:
                self.parts[value, request] = request.cut(value, node)
            else:
                part = (
                    request.apply_to(array)
                    if isinstance(request, AxisPart) and array is not None
                    else integers(request)
                )
                self.parts[value, request] = add_constant(node.graph, f"{value.name}/part", part)
        return self.parts[value, request]

    def remove_root(self, node: ir.Node, root: Root) -> None:
        """Make the readers of a root read its input, which by now holds only the part."""
        old, new = result(node), self.parts[operands(node)[0], root.part]
        if root.squeeze:
            new = squeeze(node, new, root.part.axis)
        elif old.is_graph_output():
            # A value can be only one output of the graph, and another root may need the same part.
            new = add_node(node, "Identity", [new], name=beside(node.name or "", "Identity"), shape=known_shape(old))
        substitute(old, new)


def require_input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None, "rules request only inputs that exist"
    return value


def squeeze(root: ir.Node, value: ir.Value, axis: int) -> ir.Value:
    """`value` without `axis`. It takes the name of the result of `root`."""
    graph, old = root.graph, result(root)
    assert graph is not None
    axes = add_constant(graph, beside(root.name or "", "axes"), integers((axis,)))
    new = add_node(root, "Squeeze", [value, axes], name=beside(root.name or "", "Squeeze"), shape=known_shape(old))
    take_name(new, old)
    return new


def integers(numbers: Request) -> NDArray[np.int64]:
    assert isinstance(numbers, tuple)
    return np.array(numbers, np.int64)


def known_shape(value: ir.Value) -> list[Size]:
    sizes = named_sizes(value)
    assert sizes is not None
    return sizes


def shortened(value: ir.Value, part: AxisPart) -> list[Size]:
    """The shape of this part of a value."""
    shape = known_shape(value)
    shape[part.axis] = part.length
    return shape
