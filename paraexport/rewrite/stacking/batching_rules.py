"""Rules that compute an operator for all branches at once. `arrangements` explains how its inputs are arranged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from paraexport.graph.attributes import axis_of, float_of, int_of
from paraexport.graph.naming import beside
from paraexport.graph.refusal import Refused
from paraexport.graph.shapes import Sizes, element_count
from paraexport.rewrite.stacking.arrangements import (
    FULL,
    SAMPLES,
    SPLIT,
    BranchConstants,
    BranchTensor,
    NewConstant,
    NewNode,
    Shared,
    Stacked,
    have_equal_sizes,
)
from paraexport.rewrite.stacking.batching import (
    NodeGroup,
    Rule,
    attributes_of,
    is_same,
    on_branches,
    parameters,
    stacked,
)
from paraexport.rewrite.stacking.elementwise import elementwise, operand
from paraexport.rewrite.stacking.shape_rules import SHAPE_RULES

UNARY = (
    "Abs", "Ceil", "Celu", "Clip", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Swish",
    "Tanh", "ThresholdedRelu",
)  # fmt: skip
ELEMENTWISE = ("Add", "Div", "Max", "Mean", "Min", "Mul", "Pow", "PRelu", "Sub", "Sum")


def unary(group: NodeGroup, inputs: list[BranchTensor | None]) -> BranchTensor:
    tensor = on_branches(group, inputs[0])
    return stacked(group, [tensor.source, *parameters(inputs[1:])], tensor.arrangement)


def broadcasting(group: NodeGroup, inputs: list[BranchTensor | None]) -> BranchTensor:
    plan, op_type = group.plan, group.first.op_type
    return elementwise(plan, op_type, inputs, sizes=group.sizes, name=group.name, dtype=group.dtype)


def matmul(group: NodeGroup, inputs: list[BranchTensor | None]) -> BranchTensor:
    """A product by constants, or of two activations such as queries and keys.

    Two activations may keep the branches inside an axis before the matrices, because a MatMul treats these axes entry
    by entry: as more heads if both already have them there, else as more samples.
    """
    left, right = inputs
    rank = len(group.sizes)
    if (
        isinstance(right, BranchConstants)
        and len(right.shape) == 2
        and not isinstance(left, BranchConstants)
        and rank >= 2
    ):
        return product_by_constants(group, left, right)
    if isinstance(left, Stacked) and isinstance(right, Stacked) and are_matrices_of_samples(left, right, rank):
        axis = (
            left.arrangement if left.arrangement == right.arrangement and 0 < left.arrangement < rank - 2 else SAMPLES
        )
        return stacked(group, [group.plan.arranged(tensor, axis).source for tensor in (left, right)], axis)
    sources = [operand(group.plan, tensor, FULL, matrix_sizes(tensor, rank), group.name) for tensor in (left, right)]
    return stacked(group, sources, FULL)


def product_by_constants(group: NodeGroup, left: BranchTensor | None, right: BranchConstants) -> BranchTensor:
    """[L, B·N, K] by [L, K, J], or one wide product x [W_1 | … | W_L] if a shared x has one row for each image.

    OpenVINO rejects the form [B·N, K] by [L, K, J], so a shared x with more rows is repeated.
    """
    plan, name = group.plan, beside(group.name, "weight")
    if isinstance(left, Shared) and element_count(left.sizes[1:-1]) == 1:
        return stacked(group, [left.source, plan.weight(right.arrays, 1, name)], len(group.sizes) - 1)
    tensor = on_branches(group, left)
    if right.equal and tensor.arrangement != len(group.sizes) - 1:
        return stacked(group, [tensor.source, right.values[0]], tensor.arrangement)
    weight = right.values[0] if right.equal else plan.weight(right.arrays, None, name)
    return stacked(group, [plan.arranged(tensor, SPLIT).source, weight], SPLIT)


def are_matrices_of_samples(left: Stacked, right: Stacked, rank: int) -> bool:
    """Whether both factors have the batch as their first axis, so that it still matches when L is inside it."""
    return (
        rank >= 3 and len(left.sizes) == len(right.sizes) == rank and have_equal_sizes(left.sizes[:1], right.sizes[:1])
    )


def matrix_sizes(tensor: BranchTensor | None, rank: int) -> Sizes:
    """Sizes that make `operand` extend a factor to the rank of the product.

    Raises:
        Refused: the factor is not a matrix.
    """
    shape = tensor.shape if isinstance(tensor, BranchConstants) else tensor.sizes if tensor is not None else ()
    if not 2 <= len(shape) <= rank:
        raise Refused("a factor is a vector; expected two matrices")
    return (None,) * rank


def gemm(group: NodeGroup, inputs: list[BranchTensor | None]) -> BranchTensor:
    """α x W + b as x (α W) + b."""
    left, right, *rest = inputs
    node, plan = group.first, group.plan
    alpha, beta = (float_of(node, name, 1.0) for name in ("alpha", "beta"))
    if (
        int_of(node, "transA", 0)
        or not isinstance(right, BranchConstants)
        or isinstance(left, BranchConstants)
        or beta != 1.0
    ):
        raise Refused("expected a Gemm x W + b with a constant W, transA = 0 and beta = 1")
    arrays: list[NDArray[Any]] = [array.T if int_of(node, "transB", 0) else array for array in right.arrays]
    weights = [array * array.dtype.type(alpha) for array in arrays]
    name, shared = beside(group.name, "weight"), isinstance(left, Shared)
    arrangement = 1 if shared else SPLIT
    weight = plan.weight(weights, 1 if shared else None, name)
    source = left.source if isinstance(left, Shared) else plan.arranged(on_branches(group, left), SPLIT).source
    shape = plan.shape(group.sizes, arrangement)
    multiplied = Stacked(
        NewNode("MatMul", (source, weight), {}, beside(group.name, "MatMul"), shape, group.dtype),
        group.sizes,
        arrangement,
    )
    if not rest or rest[0] is None:
        return multiplied
    name = beside(group.name, "Add")
    return elementwise(plan, "Add", [multiplied, rest[0]], sizes=group.sizes, name=name, dtype=group.dtype)


def attention(group: NodeGroup, inputs: list[BranchTensor | None]) -> BranchTensor:
    """The branches become more heads if query, key and value have them there, else more samples."""
    if any(tensor is not None for tensor in inputs[3:]):
        raise Refused("Attention has a mask or a cache; expected only query, key and value")
    tensors = [on_branches(group, tensor) for tensor in inputs[:3]]
    in_heads = len(group.sizes) == 4 and all(tensor.arrangement == 1 for tensor in tensors)
    arrangement = 1 if in_heads else SAMPLES
    return stacked(group, [group.plan.arranged(tensor, arrangement).source for tensor in tensors], arrangement)


def layer_normalization(group: NodeGroup, inputs: list[BranchTensor | None]) -> BranchTensor:
    """LN(x; γ_l, β_l) = LN(x; 1, 0) ⊙ γ_l + β_l: mean and variance need no weights, so one node is enough."""
    tensor, scale, *rest = inputs
    offset = rest[0] if rest else None
    plan, rank = group.plan, len(group.sizes)
    if axis_of(group.first, rank, -1) != rank - 1 or not isinstance(scale, BranchConstants):
        raise Refused("expected a LayerNormalization over the last axis, with a constant scale")
    if offset is not None and not isinstance(offset, BranchConstants):
        raise Refused("the bias of LayerNormalization is computed; expected a constant")
    ones = NewConstant(np.ones_like(scale.arrays[0]), beside(group.name, "ones"))
    unit = scale.values[0] if scale.equal else ones
    whole = scale.equal and (offset is None or is_same(offset))
    last = [offset.values[0]] if whole and offset is not None else []
    if isinstance(tensor, Shared):
        attributes = attributes_of(group.first)
        node = NewNode("LayerNormalization", (tensor.source, unit), attributes, group.name, tensor.sizes, group.dtype)
        normal: BranchTensor = Shared(node, tensor.sizes)
    else:
        tensor = on_branches(group, tensor)
        tensor = plan.arranged(tensor, SPLIT) if tensor.arrangement == rank - 1 else tensor
        normal = stacked(group, [tensor.source, unit, *last], tensor.arrangement)
    for op_type, constants in (("Mul", None if scale.equal else scale), ("Add", None if whole else offset)):
        if constants is not None:
            name = beside(group.name, op_type)
            normal = elementwise(plan, op_type, [normal, constants], sizes=group.sizes, name=name, dtype=group.dtype)
    return normal


RULES: dict[str, Rule] = {
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(ELEMENTWISE, broadcasting),
    **SHAPE_RULES,
    "Attention": attention,
    "Gemm": gemm,
    "LayerNormalization": layer_normalization,
    "MatMul": matmul,
}
