"""Selects early: does not compute tokens that nothing reads.

Identity, for x [B, N, D], the selection s of some entries of an axis, and an operator f that treats it entry by entry:

    s(f(x, y)) = f(s x, s y)          Add, Mul, Gelu, …; an operand that does not vary along the axis stays as it is
    s(x W) = (s x) W                  rows of a product; also LayerNormalization and Softmax over other axes
    s(Attention(q, k, v)) = Attention(s q, k, v)       each query has its own softmax, over all keys

With class-token pooling, the last layer of every branch then computes query, output projection and feed-forward for one
token, and keys and values for all tokens.

The pass first finds which part of each value is read (`demand`). If different parts are read, the value is computed as
a whole, and one Slice cuts the part from it. The pass refuses a selection that is not one constant range of one axis,
and reports every operator that must compute the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.attributes import axis_of, counted, int_of
from paraexport.graph.edit import add_constant, add_node, clean
from paraexport.graph.query import const, is_op, operands, opset_of, result
from paraexport.graph.refusal import Applied, Refused
from paraexport.graph.shapes import require_dims
from paraexport.rewrite.patterns import axes
from paraexport.rewrite.patterns.axes import LINEAR, broadcast
from paraexport.rewrite.patterns.demand import MINIMUM_OPSET, AxisPart, Requests, Root, Rule, find_roots, plan_demand
from paraexport.rewrite.patterns.heads import check_attributes
from paraexport.rewrite.patterns.narrowing import narrow_graph, shortened

NAME = "select"


@dataclass(frozen=True)
class Window(AxisPart):
    """`length` entries of `axis`, beginning at `start`."""

    start: int = 0

    def apply_to(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.take(range(self.start, self.start + self.length), self.axis)

    def cut(self, value: ir.Value, before: ir.Node) -> ir.Value:
        assert before.graph is not None
        name = f"{value.name}/Slice"
        numbers = {"starts": self.start, "ends": self.start + self.length, "axes": self.axis}
        bounds = [add_constant(before.graph, f"{name}/{role}", np.array([n])) for role, n in numbers.items()]
        return add_node(before, "Slice", [value, *bounds], name=name, shape=shortened(value, self))


def apply(graph: ir.Graph) -> Applied:
    """Counts the Gather and Slice nodes that were removed, because only their part is computed now."""
    applied = Applied(NAME)
    if opset_of(graph) < MINIMUM_OPSET:
        applied.refusals.append(f"graph: its opset is {opset_of(graph)}; expected at least {MINIMUM_OPSET}")
        return applied
    roots = find_roots(graph, selection, applied)
    plan = plan_demand(graph, roots, RULES)
    stuck = [node for node in roots if plan.requests.get((node, 0)) is not None and not plan.moves(node)]
    reported = {operands(node)[0].producer() for node in stuck} - {None}
    for node in stuck:
        if operands(node)[0].producer() is not None:
            applied.refuse(node, plan.why_not(node))
    for node in [node for node in plan.blocked if node not in reported]:
        applied.refuse(node, plan.blocked[node])
    applied.times = narrow_graph(graph, plan)
    clean(graph)
    return applied


def selection(node: ir.Node) -> Root | None:
    """The part that a Gather or Slice selects; None for other nodes, constants, shapes, and selections of everything.

    Raises:
        Refused: it does not select one constant range of one axis.
    """
    if not is_op(node, "Gather", "Slice"):
        return None
    data = operands(node)[0]
    if const(data) is not None or is_op(data.producer(), "Shape"):
        return None
    return gathered(node) if node.op_type == "Gather" else sliced(node)


def gathered(node: ir.Node) -> Root | None:
    shape, index = require_dims(operands(node)[0]), const(node.inputs[1])
    axis = axis_of(node, len(shape), 0)
    size = shape[axis]
    if index is None:
        raise Refused("its index is computed; expected a constant")
    if size is None:
        raise Refused(f"the length of axis {axis} is not known")
    entries = [int(number) + size * (number < 0) for number in index.ravel()]
    if not entries or index.ndim > 1 or entries != [*range(entries[0], entries[0] + len(entries))]:
        raise Refused(f"its indices {index.tolist()} are not one range of consecutive numbers")
    if not 0 <= entries[0] <= entries[-1] < size:
        raise Refused(f"its index {index.tolist()} is outside of axis {axis}, which has length {size}")
    if len(entries) == size:
        return None
    return Root(Window(axis, len(entries), entries[0]), squeeze=index.ndim == 0)


def sliced(node: ir.Node) -> Root | None:
    shape = require_dims(operands(node)[0])
    given = [None if value is None else const(value) for value in (*node.inputs[1:], None, None)][:4]
    if any(array is None and value is not None for array, value in zip(given, node.inputs[1:], strict=False)):
        raise Refused("its range is computed; expected constants")
    starts, ends, over, steps = ([] if array is None else array.tolist() for array in given)
    over, steps = over or range(len(starts)), steps or [1] * len(starts)
    if not len(starts) == len(ends) == len(over) == len(steps):
        raise Refused("its starts, ends, axes and steps differ in number")
    windows = []
    for start, end, given_axis, step in zip(starts, ends, over, steps, strict=True):
        axis = counted(given_axis, len(shape))
        size = shape[axis]
        if step != 1:
            raise Refused(f"it selects from axis {axis} in steps of {step}; expected 1")
        if start == 0 and end >= np.iinfo(np.int32).max:
            continue
        if size is None:
            raise Refused(f"the length of axis {axis} is not known")
        first, last = (min(max(bound + size * (bound < 0), 0), size) for bound in (start, end))
        if last <= first:
            raise Refused(f"its range of axis {axis} is empty")
        if last - first < size:
            windows.append(Window(axis, last - first, first))
    if len(windows) > 1:
        raise Refused("it cuts several axes; expected one")
    return Root(windows[0], squeeze=False) if windows else None


def matmul(node: ir.Node, part: AxisPart) -> Requests:
    """Rows, columns, or a part of the matrices."""
    rank = len(require_dims(result(node)))
    ranks = [len(require_dims(value)) for value in operands(node)]
    return broadcast(node, part) if part.axis < rank - 2 and min(ranks) >= 2 else axes.matmul(node, part)


def normalization(node: ir.Node, part: AxisPart) -> Requests:
    """The node normalises `axis` and all axes after it. Entries of earlier axes are independent."""
    if part.axis >= axis_of(node, len(require_dims(result(node))), -1):
        raise Refused(f"{node.op_type} normalises over this axis")
    return broadcast(node, part)


def softmax(node: ir.Node, part: AxisPart) -> Requests:
    if part.axis == axis_of(node, len(require_dims(result(node))), -1):
        raise Refused(f"{node.op_type} normalises over this axis")
    return {0: part}


def attention(node: ir.Node, part: AxisPart) -> Requests:
    """[B, h, N, d] or [B, N, h·d]: every query is independent of the others."""
    if int_of(node, "is_causal", 0):
        raise Refused("Attention is causal, so it depends on the positions of its queries")
    check_attributes(node)
    if len(operands(node)) > 3:
        raise Refused("Attention has a mask or a cache; expected only query, key and value")
    if part.axis != len(require_dims(result(node))) - 2:
        raise Refused("the part is not a part of the queries")
    return {0: part}


def concat(node: ir.Node, part: AxisPart) -> Requests:
    """[a; b; …]: a window inside one input needs only that input.

    Raises:
        Refused: the window covers several inputs.
    """
    if axes.joined_axis(node) != part.axis:
        return axes.concat(node, part)
    assert isinstance(part, Window)
    first = 0
    for index, value in enumerate(operands(node)):
        size = require_dims(value)[part.axis]
        if size is None or part.start < first:
            break
        if part.start + part.length <= first + size:
            is_whole = part.length == size
            unread = dict.fromkeys(set(range(len(node.inputs))) - {index})
            return unread if is_whole else {**unread, index: Window(part.axis, part.length, part.start - first)}
        first += size
    raise Refused("the selected range covers several inputs of Concat")


ELEMENTWISE = (
    "Abs", "Cast", "Ceil", "Clip", "Cos", "Div", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
    "LeakyRelu", "Log", "Max", "Mean", "Min", "Mish", "Mul", "Pow", "PRelu", "Reciprocal", "Relu", "Round", "Selu",
    "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh", "Where",
)  # fmt: skip

RULES: Mapping[str, Rule] = {
    **LINEAR,
    **dict.fromkeys(ELEMENTWISE, broadcast),
    "MatMul": matmul,
    "LayerNormalization": normalization,
    "RMSNormalization": normalization,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "Attention": attention,
    "Concat": concat,
}
