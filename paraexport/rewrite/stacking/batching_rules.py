"""How each operator is computed for all branches at once, by the layout of what it reads (`views`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from paraexport.graph.attributes import axis_of, float_of, int_of
from paraexport.graph.naming import beside
from paraexport.graph.refusal import Refused
from paraexport.rewrite.stacking.batching import Place, Rule, attributes_of, is_same, on_branches, parameters, stacked
from paraexport.rewrite.stacking.elementwise import elementwise, operand
from paraexport.rewrite.stacking.shape_rules import SHAPE_RULES
from paraexport.rewrite.stacking.views import (
    FULL,
    SAMPLES,
    SPLIT,
    Constants,
    Shared,
    Sizes,
    Stacked,
    Step,
    View,
    Weight,
    are_equal,
    product,
)

UNARY = (
    "Abs", "Ceil", "Celu", "Clip", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Swish",
    "Tanh", "ThresholdedRelu",
)  # fmt: skip
ELEMENTWISE = ("Add", "Div", "Max", "Mean", "Min", "Mul", "Pow", "PRelu", "Sub", "Sum")


def unary(place: Place, inputs: list[View | None]) -> View:
    view = on_branches(place, inputs[0])
    return stacked(place, [view.source, *parameters(inputs[1:])], view.layout)


def number_by_number(place: Place, inputs: list[View | None]) -> View:
    plan, op_type = place.plan, place.first.op_type
    return elementwise(plan, op_type, inputs, sizes=place.sizes, name=place.name, dtype=place.dtype)


def matmul(place: Place, inputs: list[View | None]) -> View:
    left, right = inputs
    rank = len(place.sizes)
    if isinstance(right, Constants) and len(right.shape) == 2 and not isinstance(left, Constants) and rank >= 2:
        return product_by_constants(place, left, right)
    if isinstance(left, Stacked) and isinstance(right, Stacked) and are_matrices_of_samples(left, right, rank):
        axis = left.layout if left.layout == right.layout and 0 < left.layout < rank - 2 else SAMPLES
        return stacked(place, [place.plan.laid_out(view, axis).source for view in (left, right)], axis)
    sources = [operand(place.plan, view, FULL, matrix_sizes(view, rank), place.name) for view in (left, right)]
    return stacked(place, sources, FULL)


def product_by_constants(place: Place, left: View | None, right: Constants) -> View:
    """[L, B·N, K] by [L, K, J], of one row an image a wide product (OpenVINO refuses [B·N, K] by [L, K, J])."""
    plan, name = place.plan, beside(place.name, "weight")
    if isinstance(left, Shared) and product(left.sizes[1:-1]) == 1:
        return stacked(place, [left.source, plan.weight(right.arrays, 1, name)], len(place.sizes) - 1)
    view = on_branches(place, left)
    if right.equal and view.layout != len(place.sizes) - 1:
        return stacked(place, [view.source, right.values[0]], view.layout)
    weight = right.values[0] if right.equal else plan.weight(right.arrays, None, name)
    return stacked(place, [plan.laid_out(view, SPLIT).source, weight], SPLIT)


def are_matrices_of_samples(left: Stacked, right: Stacked, rank: int) -> bool:
    """Whether both have the batch first, and L times as large in both it still matches."""
    return rank >= 3 and len(left.sizes) == len(right.sizes) == rank and are_equal(left.sizes[:1], right.sizes[:1])


def matrix_sizes(view: View | None, rank: int) -> Sizes:
    """As many axes as the result of a product has, each operand a matrix at least."""
    shape = view.shape if isinstance(view, Constants) else view.sizes if view is not None else ()
    if not 2 <= len(shape) <= rank:
        raise Refused("a product by a vector")
    return (None,) * rank


def gemm(place: Place, inputs: list[View | None]) -> View:
    """α x W + b as the product by α W, and the bias."""
    left, right, *rest = inputs
    node, plan = place.first, place.plan
    alpha, beta = (float_of(node, name, 1.0) for name in ("alpha", "beta"))
    if int_of(node, "transA", 0) or not isinstance(right, Constants) or isinstance(left, Constants) or beta != 1.0:
        raise Refused("a Gemm that is not an activation by a constant, and a bias")
    arrays: list[NDArray[Any]] = [array.T if int_of(node, "transB", 0) else array for array in right.arrays]
    weights = [array * array.dtype.type(alpha) for array in arrays]
    name, shared = beside(place.name, "weight"), isinstance(left, Shared)
    layout = 1 if shared else SPLIT
    weight = plan.weight(weights, 1 if shared else None, name)
    source = left.source if isinstance(left, Shared) else plan.laid_out(on_branches(place, left), SPLIT).source
    shape = plan.shape(place.sizes, layout)
    multiplied = Stacked(
        Step("MatMul", (source, weight), {}, beside(place.name, "MatMul"), shape, place.dtype), place.sizes, layout
    )
    if not rest or rest[0] is None:
        return multiplied
    name = beside(place.name, "Add")
    return elementwise(plan, "Add", [multiplied, rest[0]], sizes=place.sizes, name=name, dtype=place.dtype)


def attention(place: Place, inputs: list[View | None]) -> View:
    """The branches are more heads, where query, key and value have them there, else more samples."""
    if any(view is not None for view in inputs[3:]):
        raise Refused("attention with a mask or a cache")
    views = [on_branches(place, view) for view in inputs[:3]]
    heads = len(place.sizes) == 4 and all(view.layout == 1 for view in views)
    layout = 1 if heads else SAMPLES
    return stacked(place, [place.plan.laid_out(view, layout).source for view in views], layout)


def layer_normalization(place: Place, inputs: list[View | None]) -> View:
    """LN(x; γ_l, β_l) = LN(x; 1, 0) ⊙ γ_l + β_l: the statistics need no weights, so one node serves all branches."""
    view, scale, *rest = inputs
    offset = rest[0] if rest else None
    plan, rank = place.plan, len(place.sizes)
    if axis_of(place.first, rank, -1) != rank - 1 or not isinstance(scale, Constants):
        raise Refused("a LayerNormalization of more than the last axis, or by a computed scale")
    if offset is not None and not isinstance(offset, Constants):
        raise Refused("a LayerNormalization with a computed bias")
    ones = Weight(np.ones_like(scale.arrays[0]), beside(place.name, "ones"))
    unit = scale.values[0] if scale.equal else ones
    whole = scale.equal and (offset is None or is_same(offset))
    last = [offset.values[0]] if whole and offset is not None else []
    if isinstance(view, Shared):
        attributes = attributes_of(place.first)
        step = Step("LayerNormalization", (view.source, unit), attributes, place.name, view.sizes, place.dtype)
        normal: View = Shared(step, view.sizes)
    else:
        view = on_branches(place, view)
        view = plan.laid_out(view, SPLIT) if view.layout == rank - 1 else view
        normal = stacked(place, [view.source, unit, *last], view.layout)
    for op_type, constants in (("Mul", None if scale.equal else scale), ("Add", None if whole else offset)):
        if constants is not None:
            name = beside(place.name, op_type)
            normal = elementwise(plan, op_type, [normal, constants], sizes=place.sizes, name=name, dtype=place.dtype)
    return normal


RULES: dict[str, Rule] = {
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(ELEMENTWISE, number_by_number),
    **SHAPE_RULES,
    "Attention": attention,
    "Gemm": gemm,
    "LayerNormalization": layer_normalization,
    "MatMul": matmul,
}
