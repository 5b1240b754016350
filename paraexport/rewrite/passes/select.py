"""Early selection: tokens that nobody reads are not computed.

Identity, with s the selection of some entries of an axis and f an operator that treats that axis entry by entry:

    s(f(x, y)) = f(s x, s y)          Add, Mul, Gelu, …; an operand that is the same along the axis stays whole
    s(x W) = (s x) W                  rows of a product; likewise LayerNormalization and Softmax over other axes
    s(Attention(q, k, v)) = Attention(s q, k, v)       a softmax a query, over all keys

So with class-token pooling the last layer of every branch computes query, output projection and feed-forward for one
token, and keys and values for all. It is decided first what is read of each value (`demand.plan`): a value of which
different parts are read is computed once and whole, and the part is cut from it by one Slice.
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
from paraexport.rewrite.patterns.demand import MINIMUM_OPSET, Asks, Part, Root, Rule, plan, rebuild, shortened
from paraexport.rewrite.patterns.heads import check_attributes

NAME = "select"


@dataclass(frozen=True)
class Window(Part):
    """`length` entries of `axis` from `start` on."""

    start: int = 0

    def of_array(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.take(range(self.start, self.start + self.length), self.axis)

    def cut(self, value: ir.Value, before: ir.Node) -> ir.Value:
        assert before.graph is not None
        name = f"{value.name}/Slice"
        numbers = {"starts": self.start, "ends": self.start + self.length, "axes": self.axis}
        bounds = [add_constant(before.graph, f"{name}/{role}", np.array([n])) for role, n in numbers.items()]
        return add_node(before, "Slice", [value, *bounds], name=name, shape=shortened(value, self))


def apply(graph: ir.Graph) -> Applied:
    """Counts the Gather and Slice nodes that are gone because no more than they took is computed."""
    applied = Applied(NAME)
    if opset_of(graph) < MINIMUM_OPSET:
        applied.refusals.append(f"graph: its opset is below {MINIMUM_OPSET}")
        return applied
    roots: dict[ir.Node, Root] = {}
    for node in graph:
        try:
            if (root := selection(node)) is not None:
                roots[node] = root
        except Refused as reason:
            applied.refuse(node, reason)
    found = plan(graph, roots, RULES)
    stuck = [node for node in roots if found.asks.get((node, 0)) is not None and not found.moves(node)]
    told = {operands(node)[0].producer() for node in stuck} - {None}
    for node in stuck:
        if operands(node)[0].producer() is not None:
            applied.refuse(node, found.why_not(node))
    for node in [node for node in found.blocked if node not in told]:
        applied.refuse(node, found.blocked[node])
    applied.times = rebuild(graph, found)
    clean(graph)
    return applied


def selection(node: ir.Node) -> Root | None:
    """What a Gather or Slice takes, or None where it is neither or takes everything. Refused where it nearly is one."""
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
        raise Refused("its index is not constant")
    if size is None:
        raise Refused(f"the length of axis {axis} is not known")
    entries = [int(number) + size * (number < 0) for number in index.ravel()]
    if not entries or index.ndim > 1 or entries != [*range(entries[0], entries[0] + len(entries))]:
        raise Refused("its indices are not one range")
    if not 0 <= entries[0] <= entries[-1] < size:
        raise Refused(f"index {index.tolist()} is outside of axis {axis} of length {size}")
    if len(entries) == size:
        return None
    return Root(Window(axis, len(entries), entries[0]), squeeze=index.ndim == 0)


def sliced(node: ir.Node) -> Root | None:
    shape = require_dims(operands(node)[0])
    given = [None if value is None else const(value) for value in (*node.inputs[1:], None, None)][:4]
    if any(array is None and value is not None for array, value in zip(given, node.inputs[1:], strict=False)):
        raise Refused("its range is not constant")
    starts, ends, over, steps = ([] if array is None else array.tolist() for array in given)
    over, steps = over or range(len(starts)), steps or [1] * len(starts)
    if not len(starts) == len(ends) == len(over) == len(steps):
        raise Refused("its starts, ends, axes and steps differ in number")
    windows = []
    for start, end, given_axis, step in zip(starts, ends, over, steps, strict=True):
        axis = counted(given_axis, len(shape))
        size = shape[axis]
        if step != 1:
            raise Refused(f"it takes axis {axis} in steps of {step}")
        if start == 0 and end >= np.iinfo(np.int32).max:
            continue
        if size is None:
            raise Refused(f"the length of axis {axis} is not known")
        first, last = (min(max(bound + size * (bound < 0), 0), size) for bound in (start, end))
        if last <= first:
            raise Refused("it takes nothing")
        if last - first < size:
            windows.append(Window(axis, last - first, first))
    if len(windows) > 1:
        raise Refused("it cuts several axes")
    return Root(windows[0], squeeze=False) if windows else None


def matmul(node: ir.Node, part: Part) -> Asks:
    """Rows, columns, or some of the matrices."""
    rank = len(require_dims(result(node)))
    ranks = [len(require_dims(value)) for value in operands(node)]
    return broadcast(node, part) if part.axis < rank - 2 and min(ranks) >= 2 else axes.matmul(node, part)


def normalization(node: ir.Node, part: Part) -> Asks:
    """Each slice over `axis` and what follows it is normalised by itself."""
    if part.axis >= axis_of(node, len(require_dims(result(node))), -1):
        raise Refused("the axis is normalised over")
    return broadcast(node, part)


def softmax(node: ir.Node, part: Part) -> Asks:
    if part.axis == axis_of(node, len(require_dims(result(node))), -1):
        raise Refused("the axis is normalised over")
    return {0: part}


def attention(node: ir.Node, part: Part) -> Asks:
    """[B, h, N, d] or [B, N, h·d]: every query by itself."""
    if int_of(node, "is_causal", 0):
        raise Refused("it is causal, so a query's place matters")
    check_attributes(node)
    if len(operands(node)) > 3:
        raise Refused("it has a mask or a cache")
    if part.axis != len(require_dims(result(node))) - 2:
        raise Refused("the part is not one of queries")
    return {0: part}


def concat(node: ir.Node, part: Part) -> Asks:
    """[a; b; …]: a window inside one of them is that one's, and the others are not read at all."""
    if axes.joined_axis(node) != part.axis:
        return axes.concat(node, part)
    assert isinstance(part, Window)
    first = 0
    for index, value in enumerate(operands(node)):
        size = require_dims(value)[part.axis]
        if size is None or part.start < first:
            break
        if part.start + part.length <= first + size:
            whole = part.length == size
            unread = dict.fromkeys(set(range(len(node.inputs))) - {index})
            return unread if whole else {**unread, index: Window(part.axis, part.length, part.start - first)}
        first += size
    raise Refused("the window is spread over several inputs of Concat")


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
