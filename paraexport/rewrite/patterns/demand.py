"""Finds which part of each value is read, for early selection and early pooling.

A root is a node that keeps a part of its input along one axis, such as a Gather of one token. The walk goes backwards
from the last node. Every reader requests a part of a value, or the whole. If all readers request the same part, the
operator that computes the value may pass the request on to its inputs, by its rule. Else it computes the whole value,
and the part is cut from the result. The graph does not change here; `narrowing` carries the plan out.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.query import operands, result
from paraexport.graph.refusal import Applied, Refused, node_label
from paraexport.graph.shapes import dims, unknown_shape

MINIMUM_OPSET = 18
"""From this opset on, ReduceMean and Squeeze read their axes from an input, and Softmax normalises one axis."""


@dataclass(frozen=True)
class AxisPart(abc.ABC):
    """`length` entries that replace all entries of `axis`. The axis stays, so ranks do not change."""

    axis: int
    length: int = 1

    def at(self, axis: int) -> Self:
        """The same part of another axis."""
        return dataclasses.replace(self, axis=axis)

    @abc.abstractmethod
    def apply_to(self, array: NDArray[Any]) -> NDArray[Any]:
        """This part of a constant."""

    @abc.abstractmethod
    def cut(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """Insert nodes that compute this part of `value`."""


@dataclass(frozen=True)
class Root:
    """What a root keeps of its first input."""

    part: AxisPart
    squeeze: bool
    """It also removes the axis."""


Request = AxisPart | tuple[int, ...] | None
"""What a node that computes a part reads instead of a whole input: a part, other integers (a target of Reshape), or
nothing."""
Requests = Mapping[int, Request]
"""By the number of the input. An input without a request is read as a whole."""
Rule = Callable[[ir.Node, AxisPart], Requests]
"""The requests of an operator that computes a part of its result. Raises Refused if it cannot compute a part."""


@dataclass
class DemandPlan:
    roots: Mapping[ir.Node, Root]
    requests: dict[tuple[ir.Node, int], Request] = field(default_factory=dict)
    """By node and number of its input."""
    parts: dict[ir.Value, AxisPart] = field(default_factory=dict)
    """The values that are computed only in part."""
    blocked: dict[ir.Node, str] = field(default_factory=dict)
    """Nodes that are asked for a part but compute the whole, and the reason."""

    def wanted(self, value: ir.Value) -> Request | Literal["whole"]:
        """The request on which all readers of a value agree; the whole value if they do not agree."""
        requests: set[Request | Literal["whole"]] = {
            self.requests.get((use.node, use.idx), "whole") for use in value.uses()
        }
        requests.discard(None)
        if value.is_graph_output() or len(requests) > 1:
            return "whole"
        return requests.pop() if requests else None

    def moves(self, root: ir.Node) -> bool:
        """Whether the input of `root` is computed only in part, so that `root` is not needed any more."""
        request = self.requests.get((root, 0))
        return request is not None and self.parts.get(operands(root)[0]) == request

    def requests_of(self, node: ir.Node) -> Iterator[tuple[int, Request]]:
        """The inputs of `node` that are not read as a whole: (number, request)."""
        return (
            (index, self.requests[node, index]) for index in range(len(node.inputs)) if (node, index) in self.requests
        )

    def reach(self, root: ir.Node) -> list[ir.Node]:
        """The nodes that compute only a part because of `root`."""
        pending, reached = [operands(root)[0]], dict[ir.Node, None]()
        while pending:
            value = pending.pop()
            node = value.producer()
            if value in self.parts and node is not None and node not in reached:
                reached[node] = None
                inputs = (
                    node.inputs[index] for index, request in self.requests_of(node) if isinstance(request, AxisPart)
                )
                pending.extend(operand for operand in inputs if operand is not None)
        return list(reached)

    def why_not(self, root: ir.Node) -> str:
        """Why the input of `root` is computed as a whole."""
        value, request = operands(root)[0], self.requests[root, 0]
        if value.is_graph_output():
            return f"its input `{value.name}` is also an output of the graph"
        for use in value.uses():
            competing = self.requests.get((use.node, use.idx), "whole")
            if competing not in (request, None):
                extent = "the whole" if competing == "whole" else "another part"
                return f"`{node_label(use.node)}` reads {extent} of its input `{value.name}`"
        producer = value.producer()
        assert producer is not None
        reason = self.blocked.get(producer, "it selects a part itself")
        return f"`{node_label(producer)}` must compute the whole of `{value.name}`: {reason}"


def find_roots(graph: ir.Graph, match: Callable[[ir.Node], Root | None], applied: Applied) -> dict[ir.Node, Root]:
    """The roots among the nodes of the graph. Refusals of `match` are reported."""
    roots: dict[ir.Node, Root] = {}
    for node in graph:
        try:
            if (root := match(node)) is not None:
                roots[node] = root
        except Refused as reason:
            applied.refuse(node, reason)
    return roots


def plan_demand(graph: ir.Graph, roots: Mapping[ir.Node, Root], rules: Mapping[str, Rule]) -> DemandPlan:
    """Decide, from the last node to the first, which part of each value is computed."""
    plan = DemandPlan(roots)
    for node in reversed(graph):
        wanted = [plan.wanted(value) for value in node.outputs]
        if all(part is None for part in wanted):
            plan.requests.update({(node, index): None for index in range(len(node.inputs))})
        elif node in roots:
            plan.requests[node, 0] = roots[node].part
        elif any(isinstance(part, AxisPart) for part in wanted):
            try:
                part, requests = pass_on(node, wanted, rules)
            except Refused as reason:
                plan.blocked[node] = str(reason)
                continue
            plan.requests.update({(node, index): request for index, request in requests.items()})
            plan.parts[result(node)] = part
    return plan


def pass_on(
    node: ir.Node, wanted: list[Request | Literal["whole"]], rules: Mapping[str, Rule]
) -> tuple[AxisPart, Requests]:
    """The part that a node will compute, and what it requests for it.

    Raises:
        Refused: the node must compute its whole result.
    """
    rule = rules.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if rule is None:
        raise Refused(f"{node.op_type} cannot be computed in part")
    if len(wanted) > 1:
        raise Refused("it has more than one output")
    (part,) = wanted
    sizes = dims(result(node))
    assert isinstance(part, AxisPart)
    if sizes is None or part.axis >= len(sizes) or sizes[part.axis] is None:
        raise unknown_shape(result(node))
    return part, rule(node, part)
