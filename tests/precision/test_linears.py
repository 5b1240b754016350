"""Which products int8 is for, and which part of the model each is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paraexport.precision.int8.linears import is_within, linears, part_of, parts_of
from paraexport.precision.preparation import prepare
from tests.precision.small import KINDS, LAYOUTS, spec_of, traced_file
from tests.rewrite.graphs import graph64
from tests.rewrite.small_graphs import branches, graph_of

LEAVES = {"query", "key", "value", "output", "fc1", "fc2"}


@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
def test_the_six_products_of_every_layer_and_neither_embedding_nor_head(fields: dict[str, Any]) -> None:
    model, spec = graph64(**fields), spec_of(**fields)
    found = [node.name or "" for node in linears(model.graph)]
    layers = [f"branches.{b}/layers.{m}" for b in range(spec.branches) for m in range(spec.depth)]
    assert sorted(found) == sorted(f"{layer}/{half}/{leaf}/MatMul" for layer in layers for half, leaf in halves())
    assert parts_of(model.graph) == layers
    others = [node.name for node in model.graph if node.op_type in ("MatMul", "Gemm") and node.name not in found]
    assert any("head" in (name or "") for name in others)


def halves() -> list[tuple[str, str]]:
    return [("attention", leaf) for leaf in ("query", "key", "value", "output")] + [
        ("feed_forward", leaf) for leaf in ("fc1", "fc2")
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_that_is_meant_and_its_share(layout: str, tmp_path: Path) -> None:
    prepared = prepare(traced_file(tmp_path), layout, (), equalised=True)
    spec = spec_of()
    assert list(prepared.products) == [node.name for node in linears(prepared.model.graph)]
    if layout == "branches":
        inner = spec.heads * spec.head_dim
        layer = spec.tokens * (4 * spec.dim * inner + 2 * spec.dim * spec.mlp_dim)
        assert sum(prepared.products.values()) == spec.branches * spec.depth * layer
        patches = (spec.tokens - 1) * spec.dim * spec.channels * spec.patch_size[0] * spec.patch_size[1]
        assert prepared.linear_multiply_adds == sum(prepared.products.values()) + patches + spec.dim * spec.classes
    if layout == "stacked":
        assert len(prepared.products) < 6 * spec.depth + 1, "whatever the number of branches"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_kept_is_left_out(layout: str, tmp_path: Path) -> None:
    traced = traced_file(tmp_path)
    whole = prepare(traced, layout, (), equalised=True)
    kept = prepare(traced, layout, ("branches.1", "branches.0/layers.1"), equalised=True)
    assert not [name for name in kept.products if name.startswith(("branches.1/", "branches.0/layers.1/"))]
    assert 0 < sum(kept.products.values()) < sum(whole.products.values())
    if layout != "stacked":
        layers = {"/".join(name.split("/")[:2]) for name in kept.products}
        assert layers == {"branches.0/layers.0", "branches.2/layers.0", "branches.2/layers.1"}


def test_everything_kept_leaves_nothing(tmp_path: Path) -> None:
    everything = [f"branches.{index}" for index in range(3)]
    for layout in LAYOUTS:
        assert not prepare(traced_file(tmp_path), layout, everything, equalised=True).products


def test_without_names_every_product_is_taken() -> None:
    model = graph_of(branches(2))
    for node in model.graph:
        node.name = (node.name or "").replace("branches.", "blocks.")
    assert len(linears(model.graph)) == 2 * 6
    assert parts_of(model.graph) == []


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("branches.3/layers.1/attention/query/MatMul", "branches.3/layers.1"),
        ("branches.3/layers.12/feed_forward/fc1/MatMul.float32", "branches.3/layers.12"),
        ("branches.3/MatMul", "branches.3"),
        ("branches.3/head/MatMul", "branches.3"),
        ("branches.*/layers.1/MatMul", None),
        ("mybranches.3/layers.1/MatMul", None),
        ("embedding/MatMul", None),
        ("", None),
        (None, None),
    ],
)
def test_the_part_of_a_name(name: str | None, part: str | None) -> None:
    assert part_of(name) == part
    if part:
        assert is_within(name, [part])
        assert is_within(name, ["branches.3"])
        assert not is_within(name, ["branches.30", "branches.3/layers.120", "branches"])
