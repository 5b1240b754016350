"""Rules that pass a request for a part of a result on to the operands of linear operators.

Each rule finds the axis of the result in the operands. The rules hold for a range of the axis, because the operator
treats the axis entry by entry. They also hold for the mean over the axis, because the operator is linear.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from paraexport.graph.attributes import axis_of, int_of, ints_of
from paraexport.graph.query import const, operands, result
from paraexport.graph.refusal import Refused
from paraexport.graph.shapes import element_count, require_dims, unknown_shape
from paraexport.rewrite.patterns.demand import AxisPart, Request, Requests, Rule


def aligned(value: ir.Value, rank: int, part: AxisPart) -> AxisPart | None:
    """The part of an operand broadcast to a result of `rank`; None if the operand does not vary along the axis."""
    shape = require_dims(value)
    axis = part.axis - (rank - len(shape))
    if axis < 0 or shape[axis] == 1:
        return None
    if shape[axis] is None:
        raise unknown_shape(value)
    return part.at(axis)


def broadcast(node: ir.Node, part: AxisPart) -> Requests:
    """out[i] = f(a[i], b[i], …). An operand of length 1 along the axis is read as a whole."""
    rank = len(require_dims(result(node)))
    parts = {index: aligned(value, rank, part) for index, value in enumerate(node.inputs) if value is not None}
    return {index: request for index, request in parts.items() if request is not None}


def matmul(node: ir.Node, part: AxisPart) -> Requests:
    """out[…, i, j] = Σ_k a[…, i, k] b[…, k, j]: rows take rows of a, columns take columns of b."""
    ranks = [len(require_dims(value)) for value in operands(node)]
    rank = len(require_dims(result(node)))
    if min(ranks) < 2:
        raise Refused("a factor is a vector; expected two matrices")
    if part.axis < rank - 2:
        raise Refused("the part is a part of the matrices; expected rows or columns of each matrix")
    index = part.axis - (rank - 2)
    return {index: part.at(ranks[index] - 2 + index)}


def gemm(node: ir.Node, part: AxisPart) -> Requests:
    """out[i, j] = α Σ_k a[i, k] b[k, j] + β c[i, j]; a or b may be transposed."""
    index = part.axis
    transposed = bool(int_of(node, "transB" if index else "transA", 0))
    requests: dict[int, Request] = {index: part.at(1 - index if transposed else index)}
    if part.axis > 1:
        raise Refused("the result of Gemm has more than two axes")
    if len(operands(node)) > 2 and (added := aligned(operands(node)[2], 2, part)) is not None:
        requests[2] = added
    return requests


def transpose(node: ir.Node, part: AxisPart) -> Requests:
    """out[…, i, …] = a[…, i, …] with the axes in another order."""
    rank = len(require_dims(result(node)))
    permutation = ints_of(node, "perm", tuple(reversed(range(rank))))
    if len(permutation) != rank:
        raise Refused(f"its perm has {len(permutation)} axes, but its input has {rank}")
    return {0: part.at(permutation[part.axis])}


def reshape(node: ir.Node, part: AxisPart) -> Requests:
    """[B, N, h·d] -> [B, N, h, d]: in the target, the length of the part replaces the length of the axis."""
    data, *target = operands(node)
    numbers = const(target[0]) if target else None
    if numbers is None:
        raise Refused("the target of Reshape is not constant")
    axis = kept_axis(node, part)
    lengths = [int(number) for number in numbers]
    if axis < len(lengths) and lengths[axis] == 0 and not int_of(node, "allowzero", 0):
        # A zero copies the length from the operand, where it gets shorter. So it is replaced by the full length.
        lengths[axis] = require_dims(data)[axis] or 0
    lengths[part.axis] = part.length
    return {0: part.at(axis), 1: tuple(lengths)}


def squeeze(node: ir.Node, part: AxisPart) -> Requests:
    """Squeeze or Unsqueeze. Without a list of axes, Squeeze would remove the axis of a part of length 1 too."""
    if len(operands(node)) < 2:
        raise Refused("Squeeze does not list its axes")
    return {0: part.at(kept_axis(node, part))}


def kept_axis(node: ir.Node, part: AxisPart) -> int:
    """The axis of the operand that has the same entries as the axis of the part in the result.

    It has the same length and the same number of elements after it. A Reshape keeps the order in memory, so the entries
    are the same.

    Raises:
        Refused: there is no such axis, or a size is not known.
    """
    shape, sizes = require_dims(operands(node)[0]), require_dims(result(node))
    behind = element_count(sizes[part.axis + 1 :])
    for axis, size in enumerate(shape):
        if behind and size == sizes[part.axis] and element_count(shape[axis + 1 :]) == behind:
            return axis
    raise Refused(f"{node.op_type} splits or merges axis {part.axis} of its result")


def concat(node: ir.Node, part: AxisPart) -> Requests:
    """[a; b] along another axis: the same part of each."""
    if joined_axis(node) == part.axis:
        raise Refused("Concat joins its inputs along this axis")
    return dict.fromkeys(range(len(node.inputs)), part)


def joined_axis(node: ir.Node) -> int:
    return axis_of(node, len(require_dims(result(node))))


LINEAR: Mapping[str, Rule] = {
    **dict.fromkeys(("Add", "Sub", "Sum", "Neg", "Identity"), broadcast),
    "MatMul": matmul,
    "Gemm": gemm,
    "Transpose": transpose,
    "Reshape": reshape,
    "Squeeze": squeeze,
    "Unsqueeze": squeeze,
    "Concat": concat,
}
