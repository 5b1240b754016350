"""Pools early: takes the mean over the tokens before the last products, and not after the sum over branches.

Identity: the mean m over an axis of x [B, N, D] is linear. So it commutes with linear operators that treat the axis
entry by entry:

    m(Σ_l x_l) = Σ_l m(x_l)          m(x W) = m(x) W          m(x ⊙ γ) = m(x) ⊙ γ          m(x + b) = m(x) + b

γ and b do not vary along the axis; a constant b that varies is averaged by the pass. With mean pooling, the last linear
map of every branch then has one row for each image instead of one for each token. The skip is averaged too.

The mean stops at Gelu, LayerNormalization and Attention, which are not linear, and at a value whose single tokens are
read too. The pass refuses to move a mean if no product gets smaller.
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
from paraexport.rewrite.patterns.demand import (
    MINIMUM_OPSET,
    AxisPart,
    DemandPlan,
    Requests,
    Root,
    Rule,
    find_roots,
    plan_demand,
)
from paraexport.rewrite.patterns.narrowing import narrow_graph, shortened

NAME = "pool"


@dataclass(frozen=True)
class Mean(AxisPart):
    """The mean over all entries of `axis`."""

    def apply_to(self, array: NDArray[Any]) -> NDArray[Any]:
        mean = array.astype(np.float64).mean(self.axis, keepdims=True)
        return np.asarray(mean.astype(array.dtype))

    def cut(self, value: ir.Value, before: ir.Node) -> ir.Value:
        assert before.graph is not None
        name = f"{value.name}/ReduceMean"
        over = add_constant(before.graph, f"{name}/axes", np.array([self.axis]))
        return add_node(before, "ReduceMean", [value, over], {"keepdims": 1}, name=name, shape=shortened(value, self))


def apply(graph: ir.Graph) -> Applied:
    """Counts the ReduceMean nodes that were removed, because their input is now computed as a mean."""
    applied = Applied(NAME)
    if opset_of(graph) < MINIMUM_OPSET:
        applied.refusals.append(f"graph: its opset is {opset_of(graph)}; expected at least {MINIMUM_OPSET}")
        return applied
    roots = find_roots(graph, pooling, applied)
    plan = plan_demand(graph, roots, RULES)
    while useless := {node: reason for node in roots if (reason := why_useless(plan, node)) is not None}:
        for node, reason in useless.items():
            del roots[node]
            if reason:
                applied.refuse(node, reason)
        plan = plan_demand(graph, roots, RULES)
    applied.times = narrow_graph(graph, plan)
    clean(graph)
    return applied


def pooling(node: ir.Node) -> Root | None:
    """The mean of a ReduceMean; None for other nodes, constants, and axes of length 1.

    Raises:
        Refused: it does not average one axis of known length.
    """
    if not is_op(node, "ReduceMean") or const(node.inputs[0]) is not None:
        return None
    shape = require_dims(operands(node)[0])
    over = const(input_of(node, 1))
    if over is None:
        raise Refused("its axes are not a constant list; expected one axis")
    if over.size != 1:
        raise Refused(f"it averages {over.size} axes; expected one")
    axis = counted(int(over.ravel()[0]), len(shape))
    if shape[axis] is None:
        raise Refused(f"the length of axis {axis} is not known")
    if not (operands(node)[0].dtype or ir.DataType.UNDEFINED).is_floating_point():
        raise Refused("it averages integers; expected floating-point numbers")
    return None if shape[axis] == 1 else Root(Mean(axis), squeeze=not int_of(node, "keepdims", 1))


def why_useless(plan: DemandPlan, root: ir.Node) -> str | None:
    """The reason why moving `root` makes no product smaller, or None; empty if nothing needs a report."""
    if plan.requests.get((root, 0)) is None or operands(root)[0].producer() is None:
        return ""
    if not plan.moves(root):
        return plan.why_not(root)
    reached = plan.reach(root)
    if any(is_op(node, "MatMul", "Gemm") for node in reached):
        return None
    producers = (value.producer() for node in reached for value in operands(node))
    stops = dict.fromkeys(plan.blocked[node] for node in producers if node in plan.blocked)
    return "; ".join(["no product would get smaller if the mean moved", *stops])


def scaled(node: ir.Node, part: AxisPart) -> Requests:
    """Mul and Div are linear if only one operand varies along the axis, and it is not the divisor."""
    requests = broadcast(node, part)
    if len(requests) > 1:
        raise Refused(f"both operands of {node.op_type} vary along the axis")
    if node.op_type == "Div" and 0 not in requests:
        raise Refused("the divisor varies along the axis")
    return requests


RULES: Mapping[str, Rule] = {**LINEAR, "Mul": scaled, "Div": scaled}
