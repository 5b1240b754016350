"""(x + β) W + b = x W + (β W + b)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paraexport.rewrite.passes import norms, offsets
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

FOLDED = {"normalized-cls": 4, "input-mean": 5, "post-cls": 1, "normalized-one-branch": 0, "input-cls": 6}
"""Each norm that `norms` splits has one offset."""
GONE = {"normalized-cls": 1, "input-mean": 5, "post-cls": 1, "normalized-one-branch": 0, "input-cls": 6}
"""Three offsets of `normalized` stay for the skip."""
NEW = {"normalized-cls": 0, "input-mean": 6, "post-cls": 0, "normalized-one-branch": 0, "input-cls": 0}
"""Query, key and value of two branches have no biases, and get one each."""
POSITION = ["embedding/Add: its constant [1, 9, 12] varies along other axes than the 12 channels"]
"""Only if there is no norm between the position and the first products."""


@pytest.mark.parametrize("name", MODELS)
def test_traced_models_compute_what_they_did(name: str) -> None:
    before, after = graph64(**MODELS[name]), graph64(**MODELS[name])
    norms.apply(after.graph)
    adds = count(after, "Add")
    applied = offsets.apply(after.graph)
    assert applied.times == FOLDED[name]
    assert applied.refusals == (POSITION if name == "post-cls" else [])
    assert count(after, "Add") == adds - GONE[name] + NEW[name]
    check_exact(before, after, images())
    assert offsets.apply(after.graph).times == 0


@pytest.mark.parametrize("name", MODELS)
def test_float32(name: str) -> None:
    after = graph32(**MODELS[name])
    norms.apply(after.graph)
    offsets.apply(after.graph)
    assert float32_difference(after, **MODELS[name]) <= FLOAT32


def test_a_bias_of_its_own_and_the_offset_are_summed() -> None:
    beta, w, b = numbers(6), numbers(6, 5), numbers(5)
    before = small("a = Add(x, beta) m = MatMul(a, w) y = Add(b, m)", beta=beta, w=w, b=b)
    after = copy(before)
    assert offsets.apply(after.graph).times == 1
    assert [node.op_type for node in after.graph] == ["MatMul", "Add"]
    np.testing.assert_allclose(constant(after, "b"), beta @ w + b, rtol=1e-14)
    check_exact(before, after)


def test_a_product_without_a_bias_gains_one_and_its_value_keeps_its_name() -> None:
    before = small("a = Add(x, beta) m = MatMul(a, w) y = Relu(m)", beta=numbers(6), w=numbers(6, 5))
    after = copy(before)
    assert offsets.apply(after.graph).times == 1
    assert [(node.op_type, node.outputs[0].name) for node in after.graph] == [
        ("MatMul", "m/MatMul"), ("Add", "m"), ("Relu", "y"),
    ]  # fmt: skip
    assert [value.name for value in after.graph.initializers.values()] == ["w", "m/bias"]
    check_exact(before, after)


@pytest.mark.parametrize("attributes", ["<transB=1>", ""])
@pytest.mark.parametrize("bias", [", b", ""])
def test_a_gemm_takes_an_offset_in(attributes: str, bias: str) -> None:
    shape = (5, 6) if attributes else (6, 5)
    text = f"p = ReduceMean<keepdims=0>(x, axes) a = Add(p, beta) y = Gemm{attributes}(a, w{bias})"
    before = small(text, axes=np.array([1]), beta=numbers(6), w=numbers(*shape), b=numbers(1, 5))
    after = copy(before)
    assert offsets.apply(after.graph).times == 1
    assert [node.op_type for node in after.graph] == ["ReduceMean", "Gemm"]
    check_exact(before, after)


@pytest.mark.parametrize("attributes", ["alpha=2.0", "beta=2.0"])
def test_a_gemm_with_a_factor_is_no_plain_product(attributes: str) -> None:
    text = f"p = ReduceMean<keepdims=0>(x, axes) a = Add(p, beta) y = Gemm<{attributes}>(a, w, b)"
    before = small(text, axes=np.array([1]), beta=numbers(6), w=numbers(6, 5), b=numbers(5))
    after = copy(before)
    check_untouched(before, after, offsets.apply(after.graph))


def test_chains_of_offsets_and_products() -> None:
    text = "a = Add(x, p) b = Add(q, a) c = MatMul(b, v) d = Add(c, r) y = MatMul(d, w)"
    before = small(text, p=numbers(6), q=numbers(1, 1, 6), v=numbers(6, 3), r=numbers(3), w=numbers(3, 5))
    after = copy(before)
    assert offsets.apply(after.graph).times == 4
    assert [node.op_type for node in after.graph] == ["MatMul", "MatMul", "Add"]
    check_exact(before, after)


def test_an_offset_of_size_one_is_an_offset_of_every_channel() -> None:
    before = small("a = Add(x, beta) y = MatMul(a, w)", beta=np.array(0.3), w=numbers(6, 5))
    after = copy(before)
    assert offsets.apply(after.graph).times == 1
    check_exact(before, after)


@pytest.mark.parametrize("shape", [(4, 6), (4, 1), (1, 4, 6)])
def test_an_offset_along_tokens_is_refused(shape: tuple[int, ...]) -> None:
    before = small("a = Add(x, beta) y = MatMul(a, w)", beta=numbers(*shape), w=numbers(6, 5))
    after = copy(before)
    applied = offsets.apply(after.graph)
    assert applied.refusals == [f"a: its constant {list(shape)} varies along other axes than the 6 channels"]
    check_untouched(before, after, applied)


def test_a_bias_along_tokens_takes_an_offset_in() -> None:
    before = small("a = Add(x, beta) m = MatMul(a, w) y = Add(m, b)", beta=numbers(6), w=numbers(6, 5), b=numbers(4, 5))
    after = copy(before)
    assert offsets.apply(after.graph).times == 1
    assert constant(after, "b").shape == (4, 5)
    check_exact(before, after)


def test_an_add_is_no_bias_where_the_bare_product_is_read_too() -> None:
    text = "a = Add(x, beta) m = MatMul(a, w) n = Add(m, b) r = Relu(m) y = Mul(n, r)"
    before = small(text, beta=numbers(6), w=numbers(6, 5), b=numbers(5))
    after = copy(before)
    assert offsets.apply(after.graph).times == 1
    check_exact(before, after)


def test_a_computed_offset_is_none() -> None:
    before = small("m = ReduceMean(x, axes) a = Add(x, m) y = MatMul(a, w)", axes=np.array([1]), w=numbers(6, 5))
    after = copy(before)
    check_untouched(before, after, offsets.apply(after.graph))


def test_a_computed_weight_is_no_product() -> None:
    text = "a = Add(x, beta) t = Transpose<perm=[0, 2, 1]>(x) y = MatMul(a, t)"
    before = small(text, beta=numbers(6))
    after = copy(before)
    check_untouched(before, after, offsets.apply(after.graph))


def test_an_offset_that_a_skip_reads_stays_if_no_other_branch_shares_its_input() -> None:
    before = small("a = Add(x, beta) m = MatMul(a, w) y = Add(a, m)", beta=numbers(6), w=numbers(6, 6))
    after = copy(before)
    applied = offsets.apply(after.graph)
    assert applied.refusals == ["a: it must stay for y, and no other branch reads x"]
    check_untouched(before, after, applied)


def test_an_offset_that_the_graph_returns_stays() -> None:
    before = small("y = Add(x, beta) m = MatMul(y, w)", beta=numbers(6), w=numbers(6, 6))
    applied = offsets.apply(copy(before).graph)
    assert applied.refusals == ["y: it must stay for the graph's output, and no other branch reads x"]


def test_branches_with_skips_read_what_they_share() -> None:
    text = "a = Add(x, p) b = Add(x, q) c = MatMul(a, v) d = MatMul(b, w) y = Sum(a, b, c, d)"
    before = small(text, p=numbers(6, seed=1), q=numbers(6, seed=2), v=numbers(6, 6, seed=1), w=numbers(6, 6, seed=2))
    after = copy(before)
    assert offsets.apply(after.graph).times == 2
    products = [node for node in after.graph if node.op_type == "MatMul"]
    assert [node.inputs[0] for node in products] == [after.graph.inputs[0]] * 2
    check_exact(before, after)


SHAPES = st.sampled_from([(), (1,), (6,), (1, 6), (1, 1, 6), (4, 1), (4, 6), (1, 4, 1)])


@settings(max_examples=40, deadline=None)
@given(first=SHAPES, second=SHAPES, bias=st.sampled_from([None, (), (5,), (4, 5)]), skip=st.booleans())
def test_whatever_is_drawn_stays_exact(
    first: tuple[int, ...], second: tuple[int, ...], bias: tuple[int, ...] | None, skip: bool
) -> None:
    text = "a = Add(x, p) b = Add(q, a) c = MatMul(b, w) s = MatMul(b, v)"
    text += "d = Add(c, r)" if bias is not None else "d = Identity(c)"
    text += "e = ReduceSum(b, axes) y = Add(d, e)" if skip else "y = Add(d, s)"
    constants = {"p": numbers(*first, seed=1), "q": numbers(*second, seed=2), "r": numbers(*(bias or ()), seed=3)}
    before = small(text, w=numbers(6, 5), v=numbers(6, 5, seed=1), axes=np.array([-1]), **constants)
    after = copy(before)
    offsets.apply(after.graph)
    check_exact(before, after, X)
