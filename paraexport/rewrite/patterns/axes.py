"""Where an axis of a result is found in the operands: the rules that every part passes by, cut out or averaged.

Each holds for a range of the axis because the operator treats the axis entry by entry, and for the mean over the axis
because it is linear in the operands that have the axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx_ir as ir

from paraexport.graph.attributes import axis_of, int_of, ints_of
from paraexport.graph.query import const, operands, result
from paraexport.graph.refusal import Refused
from paraexport.graph.shapes import Dims, require_dims
from paraexport.rewrite.patterns.demand import Ask, Asks, Part, Rule


def aligned(value: ir.Value, rank: int, part: Part) -> Part | None:
    """The part of an operand broadcast to a result of `rank`; None where it is the same all along the axis."""
    shape = require_dims(value)
    axis = part.axis - (rank - len(shape))
    if axis < 0 or shape[axis] == 1:
        return None
    if shape[axis] is None:
        raise Refused(f"the shape of `{value.name}` is not known")
    return part.at(axis)


def broadcast(node: ir.Node, part: Part) -> Asks:
    """out[i] = f(a[i], b[i], …), where an operand of length 1 along the axis is read whole."""
    rank = len(require_dims(result(node)))
    parts = {index: aligned(value, rank, part) for index, value in enumerate(node.inputs) if value is not None}
    return {index: found for index, found in parts.items() if found is not None}


def matmul(node: ir.Node, part: Part) -> Asks:
    """out[…, i, j] = Σ_k a[…, i, k] b[…, k, j]: rows take rows of a, columns take columns of b."""
    ranks = [len(require_dims(value)) for value in operands(node)]
    rank = len(require_dims(result(node)))
    if min(ranks) < 2:
        raise Refused("a factor is a vector")
    if part.axis < rank - 2:
        raise Refused("the part is one of matrices, not of rows or columns")
    index = part.axis - (rank - 2)
    return {index: part.at(ranks[index] - 2 + index)}


def gemm(node: ir.Node, part: Part) -> Asks:
    """out[i, j] = α Σ_k a[i, k] b[k, j] + β c[i, j], where a or b may lie transposed."""
    index = part.axis
    transposed = bool(int_of(node, "transB" if index else "transA", 0))
    asks: dict[int, Ask] = {index: part.at(1 - index if transposed else index)}
    if part.axis > 1:
        raise Refused("its result has more than two axes")
    if len(operands(node)) > 2 and (added := aligned(operands(node)[2], 2, part)) is not None:
        asks[2] = added
    return asks


def transpose(node: ir.Node, part: Part) -> Asks:
    """out[…, i, …] = a[…, i, …] with the axes in another order."""
    rank = len(require_dims(result(node)))
    permutation = ints_of(node, "perm", tuple(reversed(range(rank))))
    if len(permutation) != rank:
        raise Refused(f"it orders {len(permutation)} axes of {rank}")
    return {0: part.at(permutation[part.axis])}


def reshape(node: ir.Node, part: Part) -> Asks:
    """[B, N, h·d] -> [B, N, h, d]: the target gets the length of the part where it had that of the axis."""
    data, *target = operands(node)
    numbers = const(target[0]) if target else None
    if numbers is None:
        raise Refused("the target of Reshape is not constant")
    axis = kept_axis(node, part)
    lengths = [int(number) for number in numbers]
    if axis < len(lengths) and lengths[axis] == 0 and not int_of(node, "allowzero", 0):
        # This zero copies the length of the operand's axis, which gets shorter.
        lengths[axis] = require_dims(data)[axis] or 0
    lengths[part.axis] = part.length
    return {0: part.at(axis), 1: tuple(lengths)}


def squeeze(node: ir.Node, part: Part) -> Asks:
    """Axes of length 1 go or come; without a list of them Squeeze would drop the part's axis as well."""
    if len(operands(node)) < 2:
        raise Refused("which axes go is not listed")
    return {0: part.at(kept_axis(node, part))}


def kept_axis(node: ir.Node, part: Part) -> int:
    """The operand's axis that has the result's length and as many elements behind it, hence the same entries."""
    shape, sizes = require_dims(operands(node)[0]), require_dims(result(node))
    behind = elements(sizes[part.axis + 1 :])
    for axis, size in enumerate(shape):
        if behind and size == sizes[part.axis] and elements(shape[axis + 1 :]) == behind:
            return axis
    raise Refused(f"{node.op_type} does not keep the axis")


def elements(sizes: Dims) -> int | None:
    known = [size for size in sizes if size is not None]
    return math.prod(known) if len(known) == len(sizes) else None


def concat(node: ir.Node, part: Part) -> Asks:
    """[a; b] along another axis."""
    if joined_axis(node) == part.axis:
        raise Refused("the axis is joined here from several")
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
