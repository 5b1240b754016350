"""LN(x) = x̂ ⊙ γ + β: all norms of one x share one x̂."""

from typing import Any

import numpy as np
import pytest

from paraexport.graph.query import const
from paraexport.rewrite.passes import norms
from tests.rewrite.graphs import count, graph64, images
from tests.rewrite.samples import (
    FLOAT32,
    MODELS,
    check_exact,
    check_untouched,
    copy,
    digest,
    float32_difference,
    graph32,
    numbers,
    small,
)

SPLIT = {"normalized-cls": 4, "input-mean": 5, "post-cls": 1, "normalized-one-branch": 0, "input-cls": 6}
"""By hand: the first norms of all branches; where the residual is the input, each norm before the feed-forward, and of
later layers; and the last norm where only the head reads it."""
LEFT = {"normalized-cls": (13, 11), "input-mean": (5, 4), "post-cls": (9, 9), "input-cls": (6, 4)}
"""LayerNormalizations before and after: L first norms become one."""
TWO = "a = LayerNormalization<axis=-1>(x, s, o) b = LayerNormalization<axis={axis}, epsilon={eps}>(x, t) y = Sub(a, b)"


def affine() -> dict[str, Any]:
    return {"s": numbers(6, seed=1), "o": numbers(6, seed=2), "t": numbers(6, seed=3)}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("everywhere", [False, True])
def test_traced_models_compute_what_they_did(name: str, everywhere: bool) -> None:
    before, after = graph64(**MODELS[name]), graph64(**MODELS[name])
    applied = norms.apply(after.graph, everywhere=everywhere)
    assert applied.times == (count(before, "LayerNormalization") if everywhere else SPLIT[name])
    assert applied.refusals == []
    if name in LEFT:
        assert (count(before, "LayerNormalization"), count(after, "LayerNormalization")) == LEFT[name]
    check_exact(before, after, images())
    again = digest(after)
    assert norms.apply(after.graph, everywhere=everywhere).times == 0
    assert digest(after) == again


@pytest.mark.parametrize("name", MODELS)
def test_float32(name: str) -> None:
    after = graph32(**MODELS[name])
    norms.apply(after.graph, everywhere=True)
    assert float32_difference(after, **MODELS[name]) <= FLOAT32


def test_everywhere_leaves_unit_norms_only() -> None:
    after = graph64()
    norms.apply(after.graph, everywhere=True)
    left = [node for node in after.graph if node.op_type == "LayerNormalization"]
    assert len(left) == 11
    for node in left:
        assert len(node.inputs) == 2
        scale = const(node.inputs[1])
        assert scale is not None
        assert (scale == 1).all()


def test_values_keep_the_names_of_their_modules() -> None:
    after = graph64()
    norms.apply(after.graph, everywhere=True)
    names = {value.name: node for node in after.graph for value in node.outputs}
    assert names["branches.1/layers.0/attention_norm"].op_type == "Add"
    assert "branches.*/layers.0/attention_norm/unit" in names


def test_equal_norms_are_one() -> None:
    text = "a = LayerNormalization(x, s, o) b = LayerNormalization(x, t, p) y = Add(a, b)"
    before = small(text, **affine() | {"t": affine()["s"], "p": affine()["o"]})
    after = copy(before)
    assert norms.apply(after.graph).times == 2
    assert [node.op_type for node in after.graph] == ["LayerNormalization", "Mul", "Add", "Add"]
    check_exact(before, after)


@pytest.mark.parametrize(("scale", "offset", "nodes"), [(1.0, 0.0, 0), (1.0, 2.0, 1), (3.0, 0.0, 1), (3.0, 2.0, 2)])
def test_ones_and_zeros_leave_no_node(scale: float, offset: float, nodes: int) -> None:
    constants = {"s": np.full(6, scale), "o": np.full(6, offset), "w": numbers(6, 5)}
    before = small("a = LayerNormalization(x, s, o) y = MatMul(a, w)", **constants)
    after = copy(before)
    assert norms.apply(after.graph).times == (nodes > 0)
    assert count(after, "Mul") + count(after, "Add") == nodes
    check_exact(before, after)


def test_a_scale_with_some_ones_is_no_scale_of_ones() -> None:
    before = small("a = LayerNormalization(x, s) y = MatMul(a, w)", s=np.array([1, 1, 2, 1, 1, 1.0]), w=numbers(6, 5))
    after = copy(before)
    assert norms.apply(after.graph).times == 1
    check_exact(before, after)


@pytest.mark.parametrize("axis", [-2, 1])
@pytest.mark.parametrize("everywhere", [False, True])
def test_another_axis_is_not_shared(axis: int, everywhere: bool) -> None:
    before = small(TWO.format(axis=axis, eps=1e-5), **affine() | {"t": numbers(4, 6)})
    after = copy(before)
    applied = norms.apply(after.graph, everywhere=everywhere)
    assert applied.refusals == ["b: it normalises what a does, but with another axis, ε or precision"]
    if everywhere:
        assert count(after, "LayerNormalization") == 2
        check_exact(before, after)
    else:
        check_untouched(before, after, applied)


def test_another_eps_is_not_shared() -> None:
    before = small(TWO.format(axis=-1, eps=1e-2), **affine())
    after = copy(before)
    applied = norms.apply(after.graph)
    assert applied.refusals == ["b: it normalises what a does, but with another axis, ε or precision"]
    check_untouched(before, after, applied)


def test_an_axis_counted_from_the_left_is_the_same_axis() -> None:
    before = small(TWO.format(axis=2, eps=1e-5), **affine())
    after = copy(before)
    assert norms.apply(after.graph).times == 2
    assert count(after, "LayerNormalization") == 1
    check_exact(before, after)


def test_a_norm_with_a_skip_stays_whole() -> None:
    before = small("a = LayerNormalization(x, s, o) b = MatMul(a, w) y = Add(a, b)", w=numbers(6, 6), **affine())
    after = copy(before)
    check_untouched(before, after, norms.apply(after.graph))
    assert norms.apply(after.graph, everywhere=True).times == 1
    check_exact(before, after)


def test_a_computed_scale_is_refused() -> None:
    before = small("c = ReduceMean<keepdims=0>(x, axes) a = LayerNormalization(x, c) y = MatMul(a, w)",
                   axes=np.array([0, 1]), w=numbers(6, 5))  # fmt: skip
    after = copy(before)
    applied = norms.apply(after.graph, everywhere=True)
    assert applied.refusals == ["a: its scale or bias is computed; expected constants"]
    check_untouched(before, after, applied)


def test_a_norm_whose_mean_is_read_is_refused() -> None:
    before = small("a, m = LayerNormalization(x, s, o) y = Add(a, m)", **affine())
    after = copy(before)
    applied = norms.apply(after.graph, everywhere=True)
    assert applied.refusals == ["a: another node reads its mean or deviation"]
    check_untouched(before, after, applied)


def test_a_norm_that_the_graph_returns_keeps_its_name() -> None:
    before = small("y = LayerNormalization(x, s, o)", **affine())
    after = copy(before)
    check_untouched(before, after, norms.apply(after.graph))
    assert norms.apply(after.graph, everywhere=True).times == 1
    assert [value.name for value in after.graph.outputs] == ["y"]
    check_exact(before, after)
