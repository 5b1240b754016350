"""Early pooling: the mean over the tokens is taken before the last products instead of after the sum over branches.

The mean m over an axis is linear, so it commutes with whatever is linear and treats the axis entry by entry:

    m(Σ_l x_l) = Σ_l m(x_l)          m(x W) = m(x) W          m(x ⊙ γ) = m(x) ⊙ γ          m(x + b) = m(x) + b

with γ and b the same along the axis; a constant that is not is averaged here and now. So with mean pooling the last
linear map of every branch has one row an image instead of one a token; the skip is averaged beside it. The mean stops
at Gelu, LayerNormalization and Attention, which are not linear, and at a value that is also read token by token.
It moves only if a product gets smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.attributes import counted, int_of
from paraexport.graph.edit import add_constant, add_node, clean
from paraexport.graph.query import const, input_of, is_op, operands, opset_of
from paraexport.graph.refusal import Applied, Refused
from paraexport.graph.shapes import require_dims
from paraexport.rewrite.patterns.axes import LINEAR, broadcast
from paraexport.rewrite.patterns.demand import MINIMUM_OPSET, Asks, Part, Plan, Root, Rule, plan, rebuild, shortened

NAME = "pool"


@dataclass(frozen=True)
class Mean(Part):
    """The mean over all entries of `axis`."""

    def of_array(self, array: NDArray[Any]) -> NDArray[Any]:
        mean = array.astype(np.float64).mean(self.axis, keepdims=True)
        return np.asarray(mean.astype(array.dtype))

    def cut(self, value: ir.Value, before: ir.Node) -> ir.Value:
        assert before.graph is not None
        name = f"{value.name}/ReduceMean"
        over = add_constant(before.graph, f"{name}/axes", np.array([self.axis]))
        return add_node(before, "ReduceMean", [value, over], {"keepdims": 1}, name=name, shape=shortened(value, self))


def apply(graph: ir.Graph) -> Applied:
    """Counts the ReduceMean nodes that are gone because less than their input is computed."""
    applied = Applied(NAME)
    if opset_of(graph) < MINIMUM_OPSET:
        applied.refusals.append(f"graph: its opset is below {MINIMUM_OPSET}")
        return applied
    roots: dict[ir.Node, Root] = {}
    for node in graph:
        try:
            if (root := pooling(node)) is not None:
                roots[node] = root
        except Refused as reason:
            applied.refuse(node, reason)
    found = plan(graph, roots, RULES)
    while useless := {node: why for node in roots if (why := why_useless(found, node)) is not None}:
        for node, why in useless.items():
            del roots[node]
            if why:
                applied.refuse(node, why)
        found = plan(graph, roots, RULES)
    applied.times = rebuild(graph, found)
    clean(graph)
    return applied


def pooling(node: ir.Node) -> Root | None:
    """The axis that a ReduceMean averages, or None where there is nothing to gain. Refused where it is not just one."""
    if not is_op(node, "ReduceMean") or const(node.inputs[0]) is not None:
        return None
    shape = require_dims(operands(node)[0])
    over = const(input_of(node, 1))
    if over is None:
        raise Refused("its axes are not listed")
    if over.size != 1:
        raise Refused(f"it averages {over.size} axes")
    axis = counted(int(over.ravel()[0]), len(shape))
    if shape[axis] is None:
        raise Refused(f"the length of axis {axis} is not known")
    if not (operands(node)[0].dtype or ir.DataType.UNDEFINED).is_floating_point():
        raise Refused("it averages integers")
    return None if shape[axis] == 1 else Root(Mean(axis), squeeze=not int_of(node, "keepdims", 1))


def why_useless(found: Plan, root: ir.Node) -> str | None:
    """Why no product gets smaller by moving `root`; None where one does."""
    if found.asks.get((root, 0)) is None or operands(root)[0].producer() is None:
        return ""
    if not found.moves(root):
        return found.why_not(root)
    reached = found.reach(root)
    if any(is_op(node, "MatMul", "Gemm") for node in reached):
        return None
    producers = (value.producer() for node in reached for value in operands(node))
    stops = dict.fromkeys(found.blocked[node] for node in producers if node in found.blocked)
    return "; ".join(["no product would get smaller", *stops])


def scaled(node: ir.Node, part: Part) -> Asks:
    """Linear in the only factor that varies along the axis, where that is no divisor."""
    asks = broadcast(node, part)
    if len(asks) > 1:
        raise Refused(f"both operands of {node.op_type} vary along the axis")
    if node.op_type == "Div" and 0 not in asks:
        raise Refused("the divisor varies along the axis")
    return asks


RULES: Mapping[str, Rule] = {**LINEAR, "Mul": scaled, "Div": scaled}
