"""(q kᵀ) / √d = (q / √d) kᵀ."""

import numpy as np
import pytest

from paraexport.rewrite.passes import query_scale
from tests.rewrite.graphs import graph64, images
from tests.rewrite.samples import (
    FLOAT32,
    MODELS,
    attention,
    attention_constants,
    check_exact,
    check_untouched,
    constant,
    copy,
    float32_difference,
    graph32,
    numbers,
    small,
)

NODES = {"normalized-cls": 6, "input-mean": 2, "post-cls": 4, "normalized-one-branch": 1, "input-cls": 3}
"""One Attention a layer of a branch."""
CONSTANTS = attention_constants()


@pytest.mark.parametrize("name", MODELS)
def test_traced_models_compute_what_they_did(name: str) -> None:
    before, after = graph64(**MODELS[name]), graph64(**MODELS[name])
    applied = query_scale.apply(after.graph)
    assert applied.times == NODES[name]
    assert applied.refusals == []
    nodes = [node for node in after.graph if node.op_type == "Attention"]
    assert [node.attributes["scale"].value for node in nodes] == [1.0] * NODES[name]
    check_exact(before, after, images())
    assert query_scale.apply(after.graph).times == 0


@pytest.mark.parametrize("name", MODELS)
def test_float32(name: str) -> None:
    after = graph32(**MODELS[name])
    query_scale.apply(after.graph)
    assert float32_difference(after, **MODELS[name]) <= FLOAT32


@pytest.mark.parametrize("attributes", ["", "<scale=0.25>", "<softcap=2.0>"])
@pytest.mark.parametrize("mask", ["", ", mask"])
@pytest.mark.parametrize("biases", ["qkv", ""])
def test_scales_masks_and_caps(attributes: str, mask: str, biases: str) -> None:
    text = attention(f"n = Attention{attributes}(q3, k3, v3{mask})", biases=biases)
    before = small(text, mask=numbers(4, 4), **CONSTANTS)
    after = copy(before)
    assert query_scale.apply(after.graph).times == 1
    scale = 0.25 if "scale" in attributes else 3**-0.5
    np.testing.assert_allclose(constant(after, "wq"), CONSTANTS["wq"] * scale, rtol=1e-14)
    assert not {value.name for node in after.graph for value in node.outputs} & {"q1"}
    check_exact(before, after)


def test_attention_without_separate_heads_divides_by_the_root_of_a_head() -> None:
    parts = " ".join(f"{part} = MatMul(x, w{part})" for part in "qkv")
    before = small(f"{parts} n = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v) y = MatMul(n, wo)", **CONSTANTS)
    after = copy(before)
    assert query_scale.apply(after.graph).times == 1
    check_exact(before, after)


def test_a_scale_of_one_stays() -> None:
    before = small(attention("n = Attention<scale=1.0>(q3, k3, v3)"), **CONSTANTS)
    after = copy(before)
    check_untouched(before, after, query_scale.apply(after.graph))


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_query_that_is_read_elsewhere_is_refused(at: int) -> None:
    text = attention().replace("y = Add(o, bo)", f"s = ReduceSum(q{at}) t = Add(o, s) y = Add(t, bo)")
    before = small(text, **CONSTANTS)
    after = copy(before)
    applied = query_scale.apply(after.graph)
    assert applied.refusals == [f"n: q{at} is read elsewhere as well"]
    check_untouched(before, after, applied)


def test_a_query_that_is_no_product_is_refused() -> None:
    before = small(attention().replace("q1 = Add(q0, bq)", "q1 = Relu(q0)"), **CONSTANTS)
    after = copy(before)
    applied = query_scale.apply(after.graph)
    assert applied.refusals == ["n: q1 is no product by a constant"]
    check_untouched(before, after, applied)


def test_a_weight_that_query_and_key_share_becomes_two() -> None:
    before = small(attention().replace("MatMul(x, wk)", "MatMul(x, wq)"), **CONSTANTS)
    after = copy(before)
    assert query_scale.apply(after.graph).times == 1
    np.testing.assert_array_equal(constant(after, "wq"), CONSTANTS["wq"])
    check_exact(before, after)
