"""Stacks elementwise operators: finds an arrangement that suits all inputs, and brings each input into it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from paraexport.graph.naming import beside
from paraexport.graph.refusal import Refused
from paraexport.graph.shapes import Sizes
from paraexport.rewrite.stacking.arrangements import (
    FULL,
    SPLIT,
    BranchConstants,
    BranchTensor,
    NewNode,
    NodeInput,
    Shared,
    Stacked,
    StackingPlan,
    have_equal_sizes,
    padded,
)


def elementwise(
    plan: StackingPlan,
    op_type: str,
    tensors: Sequence[BranchTensor | None],
    *,
    sizes: Sizes,
    name: str,
    dtype: ir.DataType | None,
) -> Stacked:
    """One node for all branches; `sizes` is the shape of the result in one branch.

    It keeps the arrangement of its inputs if they agree and everything can broadcast to it, because a conversion moves
    all numbers. Else it uses SPLIT, which costs a Reshape at most, or FULL, which always works.
    """
    given = [tensor for tensor in tensors if tensor is not None]
    present = list(dict.fromkeys(tensor.arrangement for tensor in given if isinstance(tensor, Stacked)))
    arrangements = [*(present if len(present) == 1 and present[0] != FULL else []), SPLIT, FULL]
    arrangement = next(
        arrangement for arrangement in arrangements if all(fits(tensor, arrangement, sizes) for tensor in given)
    )
    sources = [operand(plan, tensor, arrangement, sizes, name) for tensor in given]
    return Stacked(
        NewNode(op_type, tuple(sources), {}, name, plan.shape(sizes, arrangement), dtype), sizes, arrangement
    )


def fits(tensor: BranchTensor, arrangement: int, sizes: Sizes) -> bool:
    """Whether an input can be written so that it broadcasts to the result in this arrangement."""
    if arrangement == FULL:
        return True
    if not sizes:
        return False
    if not isinstance(tensor, BranchConstants):
        if arrangement == SPLIT or isinstance(tensor, Stacked):
            return have_equal_sizes(tensor.sizes, sizes)
        return len(tensor.sizes) == len(sizes) and tensor.sizes[arrangement] == 1
    shape = padded(tensor.shape, len(sizes))
    if arrangement == SPLIT:
        return all(size == 1 for size in shape[:-1])
    return isinstance(sizes[arrangement], int) or (tensor.equal and shape[arrangement] == 1)


def operand(plan: StackingPlan, tensor: BranchTensor | None, arrangement: int, sizes: Sizes, name: str) -> NodeInput:
    """A value as an input of a node. The result of the node has this arrangement, and `sizes` in one branch."""
    if isinstance(tensor, BranchConstants):
        return constant(plan, tensor, arrangement, sizes, name)
    if isinstance(tensor, Shared):
        return plan.shared_rows(tensor, name) if arrangement == SPLIT else tensor.source
    if tensor is None:
        raise Refused("it leaves out an input that the rule needs")
    if arrangement == FULL and len(tensor.sizes) < len(sizes):
        wide = Stacked(tensor.source, (*(1,) * (len(sizes) - len(tensor.sizes)), *tensor.sizes), tensor.arrangement)
        if tensor.arrangement > 0:
            raise Refused("an input has fewer axes than the result, and its branches are not in its first axis")
        return plan.rearrange(wide, FULL)
    return plan.arranged(tensor, arrangement).source


def constant(plan: StackingPlan, tensor: BranchConstants, arrangement: int, sizes: Sizes, name: str) -> NodeInput:
    """The constants of all branches as one: unchanged if equal and broadcast, else joined ([L, 1, J] in SPLIT).

    Inside axis a ≥ 0, each constant first gets the full length of that axis, because broadcasting cannot repeat it for
    one branch only.
    """
    shape, label = padded(tensor.shape, len(sizes)), beside(name, "weight")
    arrays = [array.reshape(shape) for array in tensor.arrays]
    if arrangement < 0:
        if tensor.equal:
            return tensor.values[0] if arrangement == FULL or len(tensor.shape) <= 1 else flat(plan, tensor, label)
        return plan.weight([array.reshape(1, -1) for array in arrays] if arrangement == SPLIT else arrays, None, label)
    if tensor.equal and shape[arrangement] == 1:
        return tensor.values[0]
    length = sizes[arrangement]
    assert isinstance(length, int)
    wide = [*shape[:arrangement], length, *shape[arrangement + 1 :]]
    return plan.weight([np.broadcast_to(array, wide) for array in arrays], arrangement, label)


def flat(plan: StackingPlan, tensor: BranchConstants, label: str) -> NodeInput:
    """A constant [1, …, J] as [J]."""
    return plan.weight([tensor.arrays[0].reshape(-1)], 0, label)
