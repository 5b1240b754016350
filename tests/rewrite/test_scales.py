"""(x ⊙ γ) W = x (γ ⊙ W), and (x W + b) ⊙ γ = x (W ⊙ γ) + b ⊙ γ."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paraexport.rewrite.passes import norms, offsets, scales
from tests.rewrite.graphs import count, graph64, images
from tests.rewrite.samples import (
    FLOAT32,
    MODELS,
    X,
    check_exact,
    check_untouched,
    constant,
    copy,
    float32_difference,
    graph32,
    numbers,
    small,
)

FOLDED = {"normalized-cls": 4, "input-mean": 9, "post-cls": 9, "normalized-one-branch": 0, "input-cls": 6}
"""Each norm that `norms` splits has one scale. Layer scale has two for each layer of each branch."""
LEFT = {"normalized-cls": 3, "input-mean": 0, "post-cls": 0, "normalized-one-branch": 0, "input-cls": 0}
"""The skip of `normalized` needs the scale of the first norm of each branch."""


def shared(branches: int, scale: str = "g{}", weight: str = "w") -> str:
    """The sum of branches (x ⊙ g_i) w."""
    rows = [f"a{i} = Mul(x, {scale.format(i)}) m{i} = MatMul(a{i}, {weight})" for i in range(branches)]
    return " ".join(rows) + f" y = Sum({', '.join(f'm{i}' for i in range(branches))})"


def constants(branches: int) -> dict[str, Any]:
    return {f"g{i}": numbers(6, seed=i) for i in range(branches)} | {"w": numbers(6, 5)}


@pytest.mark.parametrize("name", MODELS)
def test_traced_models_compute_what_they_did(name: str) -> None:
    before, after = graph64(**MODELS[name]), graph64(**MODELS[name])
    norms.apply(after.graph)
    offsets.apply(after.graph)
    weights = sum(value.const_value.nbytes for value in after.graph.initializers.values() if value.const_value)
    applied = scales.apply(after.graph)
    assert applied.times == FOLDED[name]
    assert applied.refusals == []
    assert count(after, "Mul") == LEFT[name]
    assert sum(value.const_value.nbytes for value in after.graph.initializers.values() if value.const_value) <= weights
    check_exact(before, after, images())
    assert scales.apply(after.graph).times == 0


@pytest.mark.parametrize("name", MODELS)
def test_float32(name: str) -> None:
    after = graph32(**MODELS[name])
    for rewrite in (norms, offsets, scales):
        rewrite.apply(after.graph)
    assert float32_difference(after, **MODELS[name]) <= FLOAT32


def test_all_products_of_the_first_layer_read_one_value() -> None:
    after = graph64()
    for rewrite in (norms, offsets, scales):
        rewrite.apply(after.graph)
    unit = next(value for node in after.graph for value in node.outputs if "*" in (value.name or ""))
    assert sorted(use.node.op_type for use in unit.uses()) == ["MatMul"] * 9 + ["Mul"] * 3


def test_a_split_everywhere_does_not_move_what_nobody_shares() -> None:
    before, after = graph64(), graph64()
    norms.apply(after.graph, everywhere=True)
    applied = offsets.apply(after.graph)
    assert applied.times == 4
    assert len(applied.refusals) == 9
    applied = scales.apply(after.graph)
    assert applied.times == 4
    assert count(after, "Mul") == 12
    check_exact(before, after, images())


@pytest.mark.parametrize("shape", [(), (1,), (6,), (1, 1, 6)])
def test_rows_are_scaled(shape: tuple[int, ...]) -> None:
    gamma, w = numbers(*shape), numbers(6, 5)
    before = small("a = Mul(g, x) m = MatMul(a, w) y = Add(m, b)", g=gamma, w=w, b=numbers(5))
    after = copy(before)
    assert scales.apply(after.graph).times == 1
    np.testing.assert_array_equal(constant(after, "w"), w * np.broadcast_to(gamma.reshape(-1), (6,))[:, None])
    check_exact(before, after)


@pytest.mark.parametrize("transposed", [True, False])
def test_both_sides_of_a_gemm_are_scaled(transposed: bool) -> None:
    text = "p = ReduceMean<keepdims=0>(x, axes) a = Mul(p, g) m = Gemm<transB={}>(a, w, b) n = Mul(m, h) y = Relu(n)"
    weights = {"w": numbers(5, 6) if transposed else numbers(6, 5), "b": numbers(5)}
    before = small(text.format(int(transposed)), axes=np.array([1]), g=numbers(6), h=numbers(5, seed=1), **weights)
    after = copy(before)
    assert scales.apply(after.graph).times == 2
    assert [node.op_type for node in after.graph] == ["ReduceMean", "Gemm", "Relu"]
    check_exact(before, after)


def test_columns_are_scaled_with_the_bias_and_the_value_is_called_by_its_new_content() -> None:
    before = small("m = MatMul(x, w) n = Add(m, b) s = Mul(n, g) y = Relu(s)", w=numbers(6, 5), b=numbers(5, seed=1),
                   g=numbers(5, seed=2))  # fmt: skip
    after = copy(before)
    assert scales.apply(after.graph).times == 1
    assert [(node.op_type, node.outputs[0].name) for node in after.graph] == [
        ("MatMul", "m"), ("Add", "s"), ("Relu", "y"),
    ]  # fmt: skip
    check_exact(before, after)


def test_a_chain_of_scales_vanishes() -> None:
    text = "a = Mul(x, p) b = Mul(a, q) c = MatMul(b, v) d = Mul(c, r) e = Mul(d, s) y = MatMul(e, w)"
    before = small(text, p=numbers(6), q=numbers(6, seed=1), v=numbers(6, 3), r=numbers(3), s=numbers(3, seed=1),
                   w=numbers(3, 5))  # fmt: skip
    after = copy(before)
    assert scales.apply(after.graph).times == 4
    assert [node.op_type for node in after.graph] == ["MatMul", "MatMul"]
    check_exact(before, after)


def test_a_scale_that_the_graph_returns_is_folded_by_columns() -> None:
    before = small("m = MatMul(x, w) y = Mul(m, g)", w=numbers(6, 5), g=numbers(5))
    after = copy(before)
    assert scales.apply(after.graph).times == 1
    assert [value.name for value in after.graph.outputs] == ["y"]
    check_exact(before, after)


@pytest.mark.parametrize("text", ["a = Mul(x, g) y = MatMul(a, w)", "a = MatMul(x, v) y = Mul(a, g)"])
@pytest.mark.parametrize("shape", [(4, 6), (4, 1), (1, 4, 6)])
def test_a_scale_along_tokens_is_refused(text: str, shape: tuple[int, ...]) -> None:
    before = small(text, g=numbers(*shape), w=numbers(6, 5), v=numbers(6, 6))
    after = copy(before)
    applied = scales.apply(after.graph)
    assert len(applied.refusals) == 1
    assert applied.refusals[0].endswith(f": its constant {list(shape)} varies along other axes than the 6 channels")
    check_untouched(before, after, applied)


@pytest.mark.parametrize(
    "text",
    [
        "m = ReduceMean(x, axes) a = Mul(x, m) y = MatMul(a, w)",
        "a = MatMul(x, v) s = Mul(a, a) y = Relu(s)",
        "a = MatMul(x, v) s = Mul(a, g) t = Neg(a) y = Add(s, t)",
        "a = MatMul(x, v) b = Add(a, g) s = Mul(b, g) t = Neg(a) y = Add(s, t)",
        "a = Mul(x, g) b = Relu(a) y = MatMul(b, w)",
    ],
    ids=["computed", "square", "read-elsewhere", "read-before-the-bias", "activation-between"],
)
def test_what_is_no_scale_of_a_product_stays(text: str) -> None:
    before = small(text, axes=np.array([1]), w=numbers(6, 5), v=numbers(6, 6), g=numbers(6))
    after = copy(before)
    check_untouched(before, after, scales.apply(after.graph))


def test_a_scale_that_a_skip_reads_stays_if_no_other_branch_shares_its_input() -> None:
    before = small("a = Mul(x, g) m = MatMul(a, w) y = Add(a, m)", g=numbers(6), w=numbers(6, 6))
    after = copy(before)
    applied = scales.apply(after.graph)
    assert applied.refusals == ["a: it must stay for y, and no other branch reads x"]
    check_untouched(before, after, applied)


def test_a_weight_shared_by_two_branches_becomes_two() -> None:
    before = small(shared(2), **constants(2))
    after = copy(before)
    assert scales.apply(after.graph).times == 2
    assert sorted(after.graph.initializers) == ["w", "w_1"]
    check_exact(before, after)


def test_a_weight_shared_by_many_branches_is_refused_for_all_of_them() -> None:
    before = small(shared(3), **constants(3))
    after = copy(before)
    applied = scales.apply(after.graph)
    assert applied.refusals == [f"a{i}: the shared weight w would become 3 different weights" for i in range(3)]
    check_untouched(before, after, applied)


def test_a_weight_shared_with_its_scale_stays_one() -> None:
    before = small(shared(4, scale="g0"), **constants(1))
    after = copy(before)
    assert scales.apply(after.graph).times == 4
    assert list(after.graph.initializers) == ["w"]
    check_exact(before, after)


def test_layer_scales_of_a_shared_product_weight_are_refused_for_all() -> None:
    rows = [f"r{i} = Relu(x) m{i} = MatMul(r{i}, w) a{i} = Mul(m{i}, g{i})" for i in range(3)]
    before = small(
        " ".join(rows) + " y = Sum(a0, a1, a2)", w=numbers(6, 6), **{k: v for k, v in constants(3).items() if k != "w"}
    )
    after = copy(before)
    applied = scales.apply(after.graph)
    assert applied.refusals == [f"a{i}: the shared weight w would become 3 different weights" for i in range(3)]
    check_untouched(before, after, applied)


def test_a_shared_weight_that_is_scaled_alike_but_later() -> None:
    text = "a = Mul(x, h) b = Mul(a, g) f = MatMul(b, w) r = Relu(x) c = Mul(r, g) e = Mul(c, k) i = MatMul(e, v)"
    drawn = {"g": numbers(6), "h": numbers(6, seed=1), "k": numbers(6, seed=2), "v": numbers(6, 5, seed=1)}
    before = small(f"{text} j = MatMul(c, w) y = Sum(f, i, j)", w=numbers(6, 5), **drawn)
    after = copy(before)
    assert scales.apply(after.graph).times == 4
    assert count(after, "Mul") == 0
    check_exact(before, after)


def test_a_shared_weight_whose_chains_differ_in_length() -> None:
    text = "a = Mul(x, g) b = Mul(a, h) c = Mul(x, g) d = Relu(c) e = Mul(d, h) f = MatMul(b, w) i = MatMul(e, w)"
    before = small(f"{text} y = Add(f, i)", g=numbers(6), h=numbers(6, seed=1), w=numbers(6, 5))
    after = copy(before)
    assert scales.apply(after.graph).times == 3
    check_exact(before, after)


SHAPES = st.sampled_from([(), (1,), (6,), (1, 6), (1, 1, 6), (4, 1), (4, 6)])


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.tuples(SHAPES, SHAPES, SHAPES), ops=st.tuples(*[st.sampled_from(["Mul", "Add"])] * 3),
    layer=st.sampled_from([None, (), (6,), (4, 1)]), skip=st.booleans(),
)  # fmt: skip
def test_whatever_is_drawn_stays_exact(
    shapes: tuple[tuple[int, ...], ...], ops: tuple[str, ...], layer: tuple[int, ...] | None, skip: bool
) -> None:
    names = ["x", "a", "b", "c"]
    text = " ".join(f"{names[i + 1]} = {op}({names[i]}, k{i})" for i, op in enumerate(ops))
    text += " m = MatMul(c, w) n = Add(m, r)" + (" s = Identity(n)" if layer is None else " s = Mul(n, l)")
    text += " t = MatMul(b, w) y = Sum(s, t, a)" if skip else " y = Relu(s)"
    drawn = {f"k{i}": numbers(*shape, seed=i) for i, shape in enumerate(shapes)} | {
        "l": numbers(*(layer or ()), seed=9)
    }
    before = small(text, w=numbers(6, 6), r=numbers(6, seed=5), **drawn)
    after = copy(before)
    offsets.apply(after.graph)
    scales.apply(after.graph)
    check_exact(before, after, X)
