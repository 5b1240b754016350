"""The key bias has no effect on the softmax, and the value bias passes through attention."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paraexport.rewrite.passes import biases, norms, offsets, scales
from tests.rewrite.graphs import count, graph64, images
from tests.rewrite.samples import (
    FLOAT32,
    MODELS,
    X,
    attention,
    attention_constants,
    check_exact,
    check_untouched,
    constant,
    copy,
    float32_difference,
    graph32,
    numbers,
    projection,
    small,
)

BARE = {"normalized-cls": 12, "input-mean": 0, "post-cls": 8, "normalized-one-branch": 0, "input-cls": 6}
"""Biases of key and value in each layer of each branch, in models with biases."""
FOLDED = {**BARE, "input-mean": 4}
"""The same after `offsets`, which adds biases."""
CONSTANTS = attention_constants()
KEY, VALUE = "n: drop_key_bias: ", "n: move_value_bias: "


@pytest.mark.parametrize("name", MODELS)
def test_traced_models_compute_what_they_did(name: str) -> None:
    before, after = graph64(**MODELS[name]), graph64(**MODELS[name])
    adds = count(after, "Add")
    applied = biases.apply(after.graph)
    assert applied.times == BARE[name]
    assert applied.refusals == []
    assert count(after, "Add") == adds - BARE[name]
    check_exact(before, after, images())
    assert biases.apply(after.graph).times == 0


@pytest.mark.parametrize("name", MODELS)
def test_after_the_offsets_too(name: str) -> None:
    before, after = graph64(**MODELS[name]), graph64(**MODELS[name])
    for rewrite in (norms, offsets, scales):
        rewrite.apply(after.graph)
    assert biases.apply(after.graph).times == FOLDED[name]
    check_exact(before, after, images())


@pytest.mark.parametrize("name", MODELS)
def test_float32(name: str) -> None:
    after = graph32(**MODELS[name])
    for rewrite in (norms, offsets, scales, biases):
        rewrite.apply(after.graph)
    assert float32_difference(after, **MODELS[name]) <= FLOAT32


def test_the_value_bias_lands_in_the_output_bias() -> None:
    before = small(attention(), **CONSTANTS)
    after = copy(before)
    assert biases.apply(after.graph).times == 2
    np.testing.assert_allclose(constant(after, "bo"), CONSTANTS["bo"] + CONSTANTS["bv"] @ CONSTANTS["wo"], rtol=1e-13)
    assert {"bk", "bv"}.isdisjoint(after.graph.initializers)
    check_exact(before, after)


def test_an_output_projection_without_a_bias_gains_one() -> None:
    text = attention().replace("o = MatMul(n2, wo) y = Add(o, bo)", "o = MatMul(n2, wo) y = Relu(o)")
    before = small(text, **CONSTANTS)
    after = copy(before)
    assert biases.apply(after.graph).times == 2
    assert constant(after, "o/bias").shape == (6,)
    check_exact(before, after)


def test_a_value_whose_heads_are_permuted_meets_the_right_rows() -> None:
    text = attention().replace("v2 = Reshape(v1, heads) v3 = Transpose<perm=[0, 2, 1, 3]>(v2)",
                               "v2 = Reshape(v1, turned) v3 = Transpose<perm=[0, 3, 1, 2]>(v2)")  # fmt: skip
    before = small(text, turned=np.array([-1, 4, 3, 2]), **CONSTANTS)
    after = copy(before)
    assert biases.apply(after.graph).times == 2
    check_exact(before, after)


def test_attention_without_separate_heads() -> None:
    parts = " ".join(f"{part} = MatMul(x, w{part}) {part}1 = Add({part}, b{part})" for part in "qkv")
    text = f"{parts} n = Attention<q_num_heads=2, kv_num_heads=2>(q1, k1, v1) y = MatMul(n, wo)"
    before = small(text, **CONSTANTS)
    after = copy(before)
    assert biases.apply(after.graph).times == 2
    check_exact(before, after)


@pytest.mark.parametrize(
    ("node", "extra", "reason"),
    [
        ("n = Attention(q3, k3, v3, mask)", "", "it has a mask or a cache; expected only query, key and value"),
        ("n = Attention<is_causal=1>(q3, k3, v3)", "", "it is causal; expected every query to see all keys"),
        ("n = Attention<softcap=2.0>(q3, k3, v3)", "", "it has softcap, which limits its scores"),
        ("n, pk, pv, s = Attention(q3, k3, v3)", "z = ReduceSum(s)", "another node reads its scores or its cache"),
    ],
)
def test_attention_that_is_not_plain_is_refused(node: str, extra: str, reason: str) -> None:
    before = small(attention(node) + extra, mask=numbers(4, 4), **CONSTANTS)
    if extra:
        before.graph.outputs.append(next(value for each in before.graph for value in each.outputs if value.name == "z"))
    after = copy(before)
    applied = biases.apply(after.graph)
    assert applied.refusals == [KEY + reason, VALUE + reason]
    check_untouched(before, after, applied)


@pytest.mark.parametrize("part", ["k", "v"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_projection_that_is_read_elsewhere_is_refused(part: str, at: int) -> None:
    text = attention(biases=part).replace("y = Add(o, bo)", f"s = ReduceSum({part}{at}) t = Add(o, s) y = Add(t, bo)")
    before = small(text, **CONSTANTS)
    after = copy(before)
    applied = biases.apply(after.graph)
    assert applied.refusals == [f"{KEY if part == 'k' else VALUE}{part}{at} has other readers too"]
    check_untouched(before, after, applied)


@pytest.mark.parametrize("part", ["k", "v"])
def test_a_bias_along_tokens_is_refused(part: str) -> None:
    before = small(attention(biases=part), **{**CONSTANTS, f"b{part}": numbers(4, 6)})
    after = copy(before)
    applied = biases.apply(after.graph)
    reason = "its constant [4, 6] varies along other axes than the 6 channels"
    assert applied.refusals == [(KEY if part == "k" else VALUE) + reason]
    check_untouched(before, after, applied)


@pytest.mark.parametrize("part", ["k", "v"])
def test_a_computed_bias_is_none(part: str) -> None:
    text = attention(biases=part).replace(f"Add({part}0, b{part})", f"Add({part}0, c)")
    before = small(f"c = ReduceMean(x, axes) {text}", axes=np.array([1]), **CONSTANTS)
    after = copy(before)
    check_untouched(before, after, biases.apply(after.graph))


@pytest.mark.parametrize("part", ["k", "v"])
def test_channels_mixed_with_tokens_are_refused(part: str) -> None:
    text = attention(biases=part).replace(
        f"{part}3 = Transpose<perm=[0, 2, 1, 3]>({part}2)", f"{part}3 = Identity({part}2)"
    )
    mixed = text.replace(
        f"{part}2 = Reshape({part}1, heads) {part}3 = Identity({part}2)", f"{part}3 = Reshape({part}1, mixed)"
    )
    before = small(mixed, mixed=np.array([-1, 2, 4, 3]), **CONSTANTS)
    after = copy(before)
    applied = biases.apply(after.graph)
    assert applied.refusals == [
        f"{KEY if part == 'k' else VALUE}a Reshape or Transpose next to it mixes channels with tokens or the batch"
    ]
    check_untouched(before, after, applied)


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ("n1 = Relu(n) n2 = ReduceMax(n1) y = Add(x, n2)", "n is read by n1; expected only products by constants"),
        ("n1 = Transpose<perm=[0, 2, 1, 3]>(n) n2 = Reshape(n1, flat) o = MatMul(n2, wo) y = Add(o, n2)",
         "n2 is read by y; expected only products by constants"),
        (
            "n2 = Reshape(n, flat) y = MatMul(n2, wo)",
            "a Reshape or Transpose next to it mixes channels with tokens or the batch",
        ),
    ],
    ids=["no-product", "skip", "mixed"],
)  # fmt: skip
def test_a_result_that_not_only_products_read_is_refused(after: str, reason: str) -> None:
    text = attention(biases="v").partition("n1 =")[0] + after
    before = small(text, **CONSTANTS)
    rewritten = copy(before)
    applied = biases.apply(rewritten.graph)
    assert applied.refusals == [VALUE + reason]
    check_untouched(before, rewritten, applied)


def test_grouped_queries_lose_the_key_bias_only() -> None:
    text = projection("q", has_bias=True) + " " + projection("k", has_bias=True) + " " + projection("v", has_bias=True)
    text = text.replace("k2 = Reshape(k1, heads)", "k2 = Reshape(k1, one)").replace(
        "Reshape(v1, heads)", "Reshape(v1, one)"
    )
    text += " n = Attention(q3, k3, v3) n1 = Transpose<perm=[0, 2, 1, 3]>(n) n2 = Reshape(n1, flat) y = MatMul(n2, wo)"
    few = {f"{kind}{part}": CONSTANTS[f"{kind}{part}"][..., :3] for kind in "wb" for part in "kv"}
    before = small(text, **{**CONSTANTS, **few, "one": np.array([-1, 4, 1, 3])})
    after = copy(before)
    applied = biases.apply(after.graph)
    assert applied.times == 1
    assert applied.refusals == [f"{VALUE}2 query heads share 1 value heads; expected the same number"]
    check_exact(before, after)


@settings(max_examples=25, deadline=None)
@given(
    heads=st.sampled_from([1, 2, 3]), width=st.sampled_from([1, 2]), value_width=st.sampled_from([1, 3]),
    batch=st.sampled_from([-1, 0]), shape=st.sampled_from([(), (1,), None]),
)  # fmt: skip
def test_heads_of_any_size(heads: int, width: int, value_width: int, batch: int, shape: tuple[int, ...] | None) -> None:
    inner, outer = heads * width, heads * value_width
    text = attention().replace("Reshape(v1, heads)", "Reshape(v1, wide)")
    before = small(
        text, wq=numbers(6, inner), wk=numbers(6, inner, seed=1), wv=numbers(6, outer), wo=numbers(outer, 5),
        bq=numbers(inner), bk=numbers(*((inner,) if shape is None else shape), seed=1),
        bv=numbers(*((outer,) if shape is None else shape), seed=2), bo=numbers(5),
        heads=np.array([batch, 4, heads, width]), wide=np.array([batch, 4, heads, value_width]),
        flat=np.array([batch, 4, outer]),
    )  # fmt: skip
    after = copy(before)
    assert biases.apply(after.graph).times == 2
    check_exact(before, after, X)
