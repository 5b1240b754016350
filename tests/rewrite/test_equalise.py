"""A value channel is multiplied by s, and its row of the output projection is divided by s."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paraexport.checks.locate import differences
from paraexport.model.spec import Spec
from paraexport.rewrite.passes import biases, equalise, norms, offsets, scales
from tests.rewrite.exact import run
from tests.rewrite.graphs import SMALL, graph64, images, model_of
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
    small,
)

NODES = {"normalized-cls": 6, "input-mean": 2, "post-cls": 4, "normalized-one-branch": 1, "input-cls": 3}
"""One Attention for each layer of each branch."""
CONSTANTS = attention_constants()
FACTORS = 2.0 ** np.array([-3, 5, 0, 1, -1, 2])


@pytest.mark.parametrize("name", MODELS)
def test_traced_models_compute_what_they_did(name: str) -> None:
    before, after = graph64(**MODELS[name]), graph64(**MODELS[name])
    generator = np.random.default_rng(0)
    names = [node.name or "" for node in after.graph if node.op_type == "Attention"]
    applied = equalise.apply(after.graph, factors={name: generator.uniform(0.1, 10, 12) for name in names})
    assert applied.times == NODES[name]
    assert applied.refusals == []
    check_exact(before, after, images())
    assert equalise.apply(after.graph).times == NODES[name]
    assert equalise.apply(after.graph).times == 0
    check_exact(before, after, images())


@pytest.mark.parametrize("name", MODELS)
def test_float32(name: str) -> None:
    after = graph32(**MODELS[name])
    equalise.apply(after.graph)
    assert float32_difference(after, **MODELS[name]) <= FLOAT32


@pytest.mark.parametrize("name", MODELS)
def test_what_is_called_after_a_module_is_what_the_module_returns(name: str, tmp_path: Path) -> None:
    spec = Spec(**{**vars(SMALL), **MODELS[name]})
    after = graph32(**MODELS[name])
    norms.apply(after.graph, everywhere=True)
    for rewrite in (offsets, scales, biases, equalise):
        assert rewrite.apply(after.graph).name == rewrite.NAME
    ir.save(after, tmp_path / "model.onnx")
    found = differences(model_of(spec), tmp_path / "model.onnx", images().astype(np.float32))
    assert {"embedding", "branches.0/layers.0/feed_forward/fc1"} <= {one.name for one in found}
    assert max(one.relative for one in found) <= FLOAT32


def test_powers_of_two_leave_every_bit() -> None:
    weights = {**CONSTANTS, "wv": CONSTANTS["wv"] * np.array([100, 0.01, 1, 3, 40, 1e-4])}
    before = small(attention(), **weights)
    after = copy(before)
    assert equalise.apply(after.graph).times == 1
    assert np.array_equal(run(before, X), run(after, X))


def test_the_largest_weights_of_each_channel_come_within_a_factor_of_two() -> None:
    weights = {**CONSTANTS, "wv": CONSTANTS["wv"] * np.array([100, 0.01, 1, 3, 40, 1e-4])}
    after = small(attention(), **weights)
    assert equalise.apply(after.graph).times == 1
    columns, rows = np.abs(constant(after, "wv")).max(0), np.abs(constant(after, "wo")).max(1)
    assert np.abs(np.log2(columns / rows)).max() <= 1
    assert not {value.name for node in after.graph for value in node.outputs} & {"v1"}


def test_given_factors_are_taken() -> None:
    before = small(attention(), **CONSTANTS)
    after = copy(before)
    assert equalise.apply(after.graph, factors={"n": FACTORS}).times == 1
    np.testing.assert_array_equal(constant(after, "wv"), CONSTANTS["wv"] * FACTORS)
    np.testing.assert_array_equal(constant(after, "bv"), CONSTANTS["bv"] * FACTORS)
    np.testing.assert_array_equal(constant(after, "wo"), CONSTANTS["wo"] / FACTORS[:, None])
    check_exact(before, after)


def test_heads_that_are_permuted_meet_the_right_rows() -> None:
    text = attention().replace("v2 = Reshape(v1, heads) v3 = Transpose<perm=[0, 2, 1, 3]>(v2)",
                               "v2 = Reshape(v1, turned) v3 = Transpose<perm=[0, 3, 1, 2]>(v2)")  # fmt: skip
    before = small(text, turned=np.array([-1, 4, 3, 2]), **CONSTANTS)
    after = copy(before)
    assert equalise.apply(after.graph, factors={"n": FACTORS}).times == 1
    np.testing.assert_array_equal(constant(after, "wo"), CONSTANTS["wo"] / FACTORS[[0, 2, 4, 1, 3, 5]][:, None])
    check_exact(before, after)


@pytest.mark.parametrize("dead", ["wv", "wo"])
def test_a_channel_of_zeros_is_left_alone(dead: str) -> None:
    weight = CONSTANTS[dead].copy()
    weight[:, 2] = 0
    weight[2] = 0
    before = small(attention(), **{**CONSTANTS, dead: weight})
    after = copy(before)
    equalise.apply(after.graph, factors=None)
    assert np.isfinite(constant(after, "wo")).all()
    np.testing.assert_array_equal(constant(after, "wv")[:, 2], weight[:, 2] if dead == "wv" else CONSTANTS["wv"][:, 2])
    check_exact(before, after)


def test_a_mask_does_not_matter() -> None:
    before = small(attention("n = Attention<softcap=3.0>(q3, k3, v3, mask)"), mask=numbers(4, 4), **CONSTANTS)
    after = copy(before)
    assert equalise.apply(after.graph, factors={"n": FACTORS}).times == 1
    check_exact(before, after)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_value_that_is_read_elsewhere_is_refused(at: int) -> None:
    text = attention().replace("y = Add(o, bo)", f"s = ReduceSum(v{at}) t = Add(o, s) y = Add(t, bo)")
    before = small(text, **CONSTANTS)
    after = copy(before)
    applied = equalise.apply(after.graph)
    assert applied.refusals == [f"n: v{at} has other readers too"]
    check_untouched(before, after, applied)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("v1 = Add(v0, bv)", "v1 = Relu(v0)", "v1 is not the result of a product by a constant"),
        ("y = Add(o, bo)", "y = Add(o, n2)", "n2 is read by y; expected only products by constants"),
        ("n1 = Transpose<perm=[0, 2, 1, 3]>(n) n2 = Reshape(n1, flat)", "n2 = Reshape(n, flat)",
         "a Reshape or Transpose next to it mixes channels with tokens or the batch"),
        ("n = Attention", "n, pk, pv = Attention", "it has a cache, or another node reads its scores"),
    ],
)  # fmt: skip
def test_what_stands_in_between_is_refused(old: str, new: str, reason: str) -> None:
    text = attention().replace(old, new)
    if "pv" in text:
        text = text.replace("q3, k3, v3", "q3, k3, v3, , past, past").replace(
            "y = Add", "z = ReduceSum(pv) t = Add(z, o) y = Add"
        )
    before = small(text, past=numbers(3, 2, 2, 3), **CONSTANTS)
    after = copy(before)
    applied = equalise.apply(after.graph)
    assert applied.refusals == [f"n: {reason}"]
    check_untouched(before, after, applied)


@pytest.mark.parametrize("factors", [np.ones(5), np.array([1, 1, 0, 1, 1, 1.0]), np.full(6, np.inf), -np.ones(6)])
def test_factors_that_are_none_are_an_error(factors: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    before = small(attention(), **CONSTANTS)
    after = copy(before)
    with pytest.raises(ValueError, match="n: expected 6 positive factors"):
        equalise.apply(after.graph, factors={"n": factors})


def test_factors_for_a_node_that_is_not_there_are_an_error() -> None:
    with pytest.raises(ValueError, match="no Attention node has the name m"):
        equalise.apply(small(attention(), **CONSTANTS).graph, factors={"n": FACTORS, "m": FACTORS})


def test_a_weight_shared_by_branches_is_refused_for_all_of_them() -> None:
    nodes = " ".join(
        f"v{i} = MatMul(x, wv) n{i} = Attention<q_num_heads=2, kv_num_heads=2>(x, x, v{i}) m{i} = MatMul(n{i}, w{i})"
        for i in range(3)
    )
    weights = {f"w{i}": numbers(6, 6, seed=i) * 2.0 ** (4 * i) for i in range(3)}
    before = small(f"{nodes} y = Sum(m0, m1, m2)", **CONSTANTS, **weights)
    after = copy(before)
    applied = equalise.apply(after.graph)
    assert applied.refusals == [
        f"n{i}: the shared weight wv would become more than 2 different weights" for i in range(3)
    ]
    check_untouched(before, after, applied)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-12, 12), min_size=6, max_size=6), st.booleans())
def test_after_the_biases_too(exponents: list[int], biased: bool) -> None:
    weights = {**CONSTANTS, "wv": CONSTANTS["wv"] * 2.0 ** np.array(exponents)}
    before = small(attention(), **weights)
    after = copy(before)
    if biased:
        biases.apply(after.graph)
    equalise.apply(after.graph)
    check_exact(before, after, X)
