"""Checkpoints of our own: they come back whole, nothing is assumed, and a record that lies is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from paraexport.checkpoint.load import load_checkpoint
from paraexport.checkpoint.native import save_checkpoint
from paraexport.errors import CheckpointError, SpecError
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Preprocessing, Spec
from tests.checkpoint.writers import saved

SPEC = Spec(
    image_size=(8, 12), channels=1, classes=3, patch_size=(4, 4), dim=12, branches=3, depth=2, heads=3, head_dim=2,
    mlp_dim=10, residual="post", activation="gelu_tanh", pool="mean", norm="before", eps=1e-6, patch_norms=True,
    qkv_bias=False, layer_scale=True,
)  # fmt: skip
IMAGES = Preprocessing(image_size=(8, 12), channels=1, resize=9, interpolation="lanczos", mean=(0.1,), std=(0.3,))
LABELS = ("cat", "dog", "eel")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "own.pt", ParaFormer(SPEC), IMAGES, LABELS)
    return tmp_path / "own.pt"


def test_what_was_saved_comes_back_with_nothing_assumed(tmp_path: Path) -> None:
    model = ParaFormer(SPEC).eval()
    save_checkpoint(tmp_path / "own.pt", model, IMAGES, LABELS)
    loaded = load_checkpoint(tmp_path / "own.pt")
    assert (loaded.spec, loaded.preprocessing, loaded.labels, loaded.assumptions) == (SPEC, IMAGES, LABELS, ())
    assert loaded.convention == "paraformer"
    images = torch.randn(2, 1, 8, 12)
    assert torch.equal(loaded.module(images), model(images))


def test_options_change_what_is_about_the_images_and_nothing_else(path: Path) -> None:
    loaded = load_checkpoint(path, overrides={"mean": "0.4", "resize": "8x12"})
    assert loaded.preprocessing == dataclasses.replace(IMAGES, mean=(0.4,), resize=(8, 12))
    with pytest.raises(SpecError, match="residual is post in the checkpoint, but input in --spec"):
        load_checkpoint(path, overrides={"residual": "input"})


def test_labels_must_fit_when_they_are_saved(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="expected 3 labels, got 2"):
        save_checkpoint(tmp_path / "own.pt", ParaFormer(SPEC), IMAGES, ("cat", "dog"))
    assert not (tmp_path / "own.pt").exists()


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda own: own["spec"].update(head=3), CheckpointError, "unknown fields in the recorded spec: head"),
        (lambda own: own["spec"].pop("dim"), CheckpointError, "the recorded spec cannot be read"),
        (lambda own: own["spec"].update(dim="wide"), CheckpointError, "the recorded spec cannot be read"),
        (lambda own: own["spec"].update(pool="max"), CheckpointError, "the recorded spec cannot be read"),
        (lambda own: own["spec"].update(heads=0), CheckpointError, "the recorded spec contradicts itself: heads is 0"),
        (
            lambda own: own["spec"].update(dim=16),
            CheckpointError,
            "embedding.class_token expected [1, 1, 16], got [1, 1, 12]",
        ),
        (lambda own: own["spec"].update(branches=4), CheckpointError, "branches.3.layers.0.attention_norm.weight"),
        (lambda own: own["spec"].update(branches=10**6), CheckpointError, "the weights have 6 layers in all"),
        (
            lambda own: own["spec"].update(branches=10**9),
            CheckpointError,
            "branches is 1000000000, expected 1 to 1000000",
        ),
        (lambda own: own["preprocessing"].update(mean=(float("nan"),)), CheckpointError, "expected a mean on the 0..1"),
        (lambda own: own["spec"].update(branches=2), CheckpointError, "branches.2.layers.0.attention_norm.weight"),
        (lambda own: own.update(preprocessing=3), CheckpointError, "the recorded preprocessing is no mapping"),
        (lambda own: own["preprocessing"].update(sharpen=1), CheckpointError, "unknown fields in the recorded"),
        (lambda own: own["preprocessing"].update(std=(0.0,)), CheckpointError, "expected positive numbers"),
        (lambda own: own["preprocessing"].update(mean=(0.5, 0.5)), SpecError, "mean has 2 numbers"),
        (lambda own: own["preprocessing"].update(channels=3), CheckpointError, "channels is 3 after"),
        (lambda own: own["preprocessing"].update(image_size=(9, 9)), CheckpointError, "image_size is 9x9 after"),
        (lambda own: own["preprocessing"].update(resize=0), CheckpointError, "resize is 0"),
        (lambda own: own.update(labels=["cat"]), SpecError, "expected 3 labels, got 1"),
        (lambda own: own.update(labels=[1, 2, 3]), CheckpointError, "labels cannot be used"),
        (lambda own: own["state_dict"].pop("head.bias"), CheckpointError, "1 missing: head.bias"),
        (lambda own: own["state_dict"].pop("norm.weight"), CheckpointError, "1 missing: norm.weight"),
        (lambda own: own["state_dict"].pop("embedding.position"), CheckpointError, "1 missing: embedding.position"),
    ],
)
def test_a_record_that_is_wrong_is_refused(
    change: Change, kind: type[Exception], message: str, path: Path, tmp_path: Path
) -> None:
    content = torch.load(path, weights_only=True)
    content["spec"], content["state_dict"] = dict(content["spec"]), dict(content["state_dict"])
    change(content)
    with pytest.raises(kind) as caught:
        load_checkpoint(saved(tmp_path / "changed.pt", content))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_short_position_is_not_filled_up(path: Path, tmp_path: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["state_dict"]["embedding.position"] = content["state_dict"]["embedding.position"][:, 1:]
    with pytest.raises(CheckpointError, match=r"embedding.position expected \[1, 7, 12\], got \[1, 6, 12\]"):
        load_checkpoint(saved(tmp_path / "changed.pt", content))
