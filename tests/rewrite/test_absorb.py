"""`absorb` is exact and cheaper, and refuses every attention that it cannot replace exactly."""

from typing import Any

import numpy as np
import pytest

from paraexport.graph.cost import multiply_adds
from paraexport.rewrite.passes import absorb, biases, pool, scales, select, stack, tidy
from tests.rewrite.graphs import count, graph64, images
from tests.rewrite.samples import (
    FLOAT32,
    attention_constants,
    check_exact,
    check_untouched,
    copy,
    float32_difference,
    graph32,
    numbers,
    small,
)

CLASS_TOKEN: list[dict[str, Any]] = [
    {},
    {"residual": "input", "qkv_bias": False},
    {"residual": "post", "branches": 2, "depth": 1, "layer_scale": True},
    {"branches": 5, "depth": 3, "heads": 2, "head_dim": 7},
    {"branches": 1, "depth": 1, "heads": 1, "head_dim": 12},
]
BEFORE = (scales.apply, biases.apply, select.apply, pool.apply)
CONSTANTS = {
    **attention_constants(),
    "zero": np.array([0]), "one": np.array([1]), "squares": np.array([-1, 2, 2, 6]),
    "single": np.array([-1, 1, 2, 3]), "flat": np.array([-1, 1, 6]),
}  # fmt: skip
QUERY = "x0 = Slice(x, zero, one, one) q0 = MatMul(x0, wq) q1 = Add(q0, bq) q2 = Reshape(q1, single)"
HEADS = (
    "q3 = Transpose<perm=[0, 2, 1, 3]>(q2) k3 = Transpose<perm=[0, 2, 1, 3]>(k2) v3 = Transpose<perm=[0, 2, 1, 3]>(v2)"
)
KEYS = "k1 = MatMul(x, wk) k2 = Reshape(k1, heads) v1 = MatMul(x, wv) v2 = Reshape(v1, heads)"
AFTER = "n1 = Transpose<perm=[0, 2, 1, 3]>(n) n2 = Reshape(n1, flat) o = MatMul(n2, wo) y = Add(o, bo)"


def site(node: str = "n = Attention(q3, k3, v3)", *, keys: str = KEYS, after: str = AFTER) -> str:
    return f"{QUERY} {keys} {HEADS} {node} {after}"


@pytest.mark.parametrize("fields", CLASS_TOKEN, ids=str)
@pytest.mark.parametrize("stacking", [False, True])
def test_last_layers_are_exact_and_need_no_keys(fields: dict[str, Any], stacking: bool) -> None:
    before, after = graph64(**fields), graph64(**fields)
    for apply in BEFORE:
        apply(after.graph)
    selected = multiply_adds(after.graph)
    applied = absorb.apply(after.graph)
    assert (applied.times, applied.refusals) == (fields.get("branches", 3), [])
    assert multiply_adds(after.graph) < selected
    assert count(after, "Attention") == fields.get("branches", 3) * (fields.get("depth", 2) - 1)
    assert absorb.apply(after.graph).times == 0
    if stacking:
        stacked = stack.apply(after.graph).times
        assert stacked == (fields.get("branches", 3) > 1)
        tidy.apply(after.graph)
    for batch in (1, 7):
        check_exact(before, after, images(batch=batch))


@pytest.mark.parametrize("fields", CLASS_TOKEN, ids=str)
def test_float32(fields: dict[str, Any]) -> None:
    after = graph32(**fields)
    for apply in (*BEFORE, absorb.apply):
        apply(after.graph)
    assert float32_difference(after, **fields) <= FLOAT32


def test_multiply_adds_of_one_attention_are_as_counted_by_hand() -> None:
    after = small(site(), **CONSTANTS)
    assert absorb.apply(after.graph).times == 1
    heads, tokens, dim = 2, 4, 6
    assert multiply_adds(after.graph) == 2 * dim * heads * dim + 2 * heads * tokens * dim


@pytest.mark.parametrize("attributes", ["", "<scale=0.25>"])
def test_scales(attributes: str) -> None:
    before = small(site(f"n = Attention{attributes}(q3, k3, v3)"), **CONSTANTS)
    after = copy(before)
    assert absorb.apply(after.graph).times == 1
    assert count(after, "Attention") == 0
    check_exact(before, after)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (site("n = Attention<softcap=2.0>(q3, k3, v3)"), "it has softcap, which limits its scores"),
        (site("n = Attention(q3, k3, v3, mask)"), "a mask"),
        (site(keys=KEYS.replace("k1 = MatMul(x, wk)", "k0 = MatMul(x, wk) k1 = Add(k0, bk)")), "has a bias"),
        (
            site(keys=KEYS.replace("v1 = MatMul(x, wv)", "v0 = MatMul(x, wv) v1 = Relu(v0)")),
            "v1 is not the result of a product by a constant",
        ),
        (site(after=AFTER.replace("o = MatMul(n2, wo)", "p = Relu(n2) o = MatMul(p, wo)")), "n2 must have one reader"),
        (
            site(keys=KEYS.replace("MatMul(x, ", "MatMul(x0, ").replace("heads", "single")),
            "with 1 tokens, it would need 168 multiply-adds instead of 156",
        ),
        (
            site(
                keys=KEYS.replace(
                    "v2 = Reshape(v1, heads)",
                    "va = Reshape(v1, squares) vb = Transpose<perm=[0, 2, 1, 3]>(va) v2 = Reshape(vb, heads)",
                )
            ),
            "changes the order of the samples or tokens of v1",
        ),
        (
            site(after=AFTER.replace("y = Add(o, bo)", "s = Relu(n2) r = Add(o, s) y = Add(r, bo)")),
            "n2 must have one reader",
        ),
    ],
)
def test_what_is_not_the_same_stays(text: str, reason: str) -> None:
    before = small(text, mask=numbers(1, 4), **CONSTANTS)
    after = copy(before)
    applied = absorb.apply(after.graph)
    check_untouched(before, after, applied)
    assert len(applied.refusals) == 1
    assert reason in applied.refusals[0]


@pytest.mark.parametrize(("ways", "applied"), [(2, True), (3, False)])
def test_weights_shared_in_many_ways_are_not_multiplied(ways: int, *, applied: bool) -> None:
    """Each of `ways` query weights meets each of `ways` key weights. Each pair would need its own constant."""
    pairs = [
        f"q0{i} = MatMul(x0, q{i // ways}) q2{i} = Reshape(q0{i}, single) q3{i} = Transpose<perm=[0, 2, 1, 3]>(q2{i}) "
        f"k1{i} = MatMul(x, k{i % ways}) k2{i} = Reshape(k1{i}, heads) k3{i} = Transpose<perm=[0, 2, 1, 3]>(k2{i}) "
        f"v1{i} = MatMul(x, wv) v2{i} = Reshape(v1{i}, heads) v3{i} = Transpose<perm=[0, 2, 1, 3]>(v2{i}) "
        f"n{i} = Attention(q3{i}, k3{i}, v3{i}) n1{i} = Transpose<perm=[0, 2, 1, 3]>(n{i}) "
        f"n2{i} = Reshape(n1{i}, flat) o{i} = MatMul(n2{i}, wo)"
        for i in range(ways**2)
    ]
    total = f"y = Sum({', '.join(f'o{i}' for i in range(ways**2))})"
    weights = {f"{part}{i}": numbers(6, 6, seed=i + ord(part)) for part in "qk" for i in range(ways)}
    before = small(" ".join(["x0 = Slice(x, zero, one, one)", *pairs, total]), **weights, **CONSTANTS)
    after = copy(before)
    done = absorb.apply(after.graph)
    assert done.times == (ways**2 if applied else 0)
    assert all(
        "weights of 288 numbers, which several attentions share, would become 720" in line for line in done.refusals
    )
    assert len(done.refusals) == (0 if applied else 9)
    check_exact(before, after)


def test_several_queries_are_left_alone_in_silence() -> None:
    before, after = graph64(pool="mean"), graph64(pool="mean")
    check_untouched(before, after, absorb.apply(after.graph))


def test_many_heads_are_refused_for_the_weights_they_would_need() -> None:
    after = graph64(heads=6, head_dim=2)
    for apply in BEFORE:
        apply(after.graph)
    applied = absorb.apply(after.graph)
    assert applied.times == 0
    assert [line.partition(": ")[2] for line in applied.refusals] == [
        "with 6 heads, its weights would grow 3.0 times; the limit is 2"
    ] * 3


def test_tied_branches_share_the_new_weights() -> None:
    text = f"{site()} "
    twice = text.replace("y = Add(o, bo)", "") + (
        "Q0 = MatMul(x0, wq) Q1 = Add(Q0, bo) Q2 = Reshape(Q1, single) K1 = MatMul(x, wk) K2 = Reshape(K1, heads) "
        "V1 = MatMul(x, wv) V2 = Reshape(V1, heads) Q3 = Transpose<perm=[0, 2, 1, 3]>(Q2) "
        "K3 = Transpose<perm=[0, 2, 1, 3]>(K2) V3 = Transpose<perm=[0, 2, 1, 3]>(V2) N = Attention(Q3, K3, V3) "
        "N1 = Transpose<perm=[0, 2, 1, 3]>(N) N2 = Reshape(N1, flat) O = MatMul(N2, wo) y = Add(o, O)"
    )
    before = small(twice, **CONSTANTS)
    after = copy(before)
    assert absorb.apply(after.graph).times == 2
    matrices = [
        value for value in after.graph.initializers.values() if value.shape is not None and len(value.shape) == 2
    ]
    assert sorted(tuple(value.shape or ()) for value in matrices) == [(6, 12), (12, 6)]
    check_exact(before, after)
