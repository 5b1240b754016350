"""Stacking rules for operators that move numbers, or work along some axes. They follow the axis with the branches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from paraexport.graph.attributes import attribute, axis_of, counted, int_of, ints_of
from paraexport.graph.refusal import Refused
from paraexport.graph.shapes import element_count, require_numbers
from paraexport.rewrite.stacking.arrangements import SAMPLES, BranchConstants, BranchTensor, Stacked
from paraexport.rewrite.stacking.batching import NodeGroup, Rule, is_same, on_branches, parameters, stacked

BranchTensors = list[BranchTensor | None]
AxesOf = Callable[[ir.Node, BranchTensors], Sequence[int] | None]
"""The axes along which a node works; None means all."""


def transpose(group: NodeGroup, inputs: BranchTensors) -> BranchTensor:
    tensor = on_branches(group, inputs[0])
    tensor = tensor if tensor.arrangement >= 0 else group.plan.arranged(tensor, SAMPLES)
    order = ints_of(group.first, "perm", tuple(reversed(range(len(tensor.sizes)))))
    if sorted(order) != [*range(len(tensor.sizes))]:
        raise Refused(f"its perm {list(order)} does not fit a value with {len(tensor.sizes)} axes")
    return stacked(group, [tensor.source], order.index(tensor.arrangement))


def reshape(group: NodeGroup, inputs: BranchTensors) -> BranchTensor:
    """Keep the branches inside an axis if the Reshape allows it; else make them samples first.

    With L inside axis a, the numbers are ordered as (axes before a, L, a and the axes after it). A Reshape keeps this
    order. So L ends up inside the axis of the result from which on one branch has the same count of numbers: with
    [B, N, L·(h·d)] -> [B, N, L·h, d], h·d numbers follow L before and after. If no axis has this count, the Reshape
    mixes numbers across L, and L must move to the front first. There, nothing is outside of L.
    """
    tensor = on_branches(group, inputs[0])
    plan, sizes = group.plan, group.sizes
    arrangement = SAMPLES
    if tensor.arrangement > 0:
        rest = element_count(tensor.sizes[tensor.arrangement :])
        fits = [axis for axis in range(1, len(sizes)) if rest is not None and element_count(sizes[axis:]) == rest]
        arrangement = fits[-1] if fits else SAMPLES
        tensor = tensor if fits else plan.arranged(tensor, SAMPLES)
    require_numbers(sizes[1:], "its result")
    node = plan.reshape(tensor.source, plan.target(sizes, arrangement), plan.shape(sizes, arrangement), group.name)
    return Stacked(node, sizes, arrangement)


def concat(group: NodeGroup, inputs: BranchTensors) -> BranchTensor:
    if axis_of(group.first, len(group.sizes)) == 0:
        raise Refused("it works along the first axis, which holds the batch")
    tensors = [group.plan.arranged(on_branches(group, tensor), SAMPLES) for tensor in inputs]
    return stacked(group, [tensor.source for tensor in tensors], SAMPLES)


def along(axes_of: AxesOf) -> Rule:
    """The rule of an operator that works along some axes, keeps or drops them, and treats the others entry by entry."""

    def rule(group: NodeGroup, inputs: BranchTensors) -> BranchTensor:
        tensor = on_branches(group, inputs[0])
        rank, given = len(tensor.sizes), axes_of(group.first, inputs)
        axes = [counted(axis, rank) for axis in (range(rank) if given is None else given)]
        if 0 in axes or not axes:
            raise Refused("it works along the first axis, which holds the batch")
        if tensor.arrangement < 0 or tensor.arrangement in axes:
            tensor = group.plan.arranged(tensor, SAMPLES)
        # Each dropped axis before the branches moves them one axis to the front.
        dropped_each = (rank - len(group.sizes)) // len(axes)
        arrangement = tensor.arrangement - dropped_each * sum(axis < tensor.arrangement for axis in axes)
        return stacked(group, [tensor.source, *parameters(inputs[1:])], arrangement)

    return rule


def sliced_axes(_node: ir.Node, inputs: BranchTensors) -> Sequence[int] | None:
    return constant_axes(inputs, 3)


def reduced_axes(node: ir.Node, inputs: BranchTensors) -> Sequence[int] | None:
    given = attribute(node, "axes")
    return (given if isinstance(given, Sequence) else constant_axes(inputs, 1)) or None


def constant_axes(inputs: BranchTensors, index: int) -> list[int] | None:
    tensor = inputs[index] if len(inputs) > index else None
    if tensor is None:
        return None
    if not isinstance(tensor, BranchConstants) or not is_same(tensor):
        raise Refused("its axes must be constants that are the same in all branches")
    return [int(axis) for axis in tensor.arrays[0].ravel()]


SHAPE_RULES: dict[str, Rule] = {
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), reshape),
    **dict.fromkeys(("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"), along(reduced_axes)),
    "Concat": concat,
    "Gather": along(lambda node, _: [int_of(node, "axis", 0)]),
    "Slice": along(sliced_axes),
    "Softmax": along(lambda node, _: [int_of(node, "axis", -1)]),
    "Transpose": transpose,
}
