"""Each convention, written under its real names, loads and answers as the reference in NumPy float64 does."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from numpy.typing import NDArray

from paraexport.checkpoint.load import Checkpoint, load_checkpoint
from paraexport.errors import SpecError
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Spec
from tests import reference
from tests.checkpoint.cases import Case, cases, options
from tests.checkpoint.writers import (
    CONVENTIONS,
    RELEASED,
    TIMM,
    TORCH,
    VIT_PYTORCH,
    Names,
    random_weights,
    saved,
    state_dict,
)

SMALL = Spec(
    image_size=(8, 8), channels=3, classes=5, patch_size=(4, 4), dim=16, branches=2, depth=2, heads=2, head_dim=8,
    mlp_dim=24,
)  # fmt: skip
FLOAT32 = 1e-5
"""max |Δ logit| / max |logit| between float32 and float64."""
LINEAR = {"patch_size": "4x4", "channels": "3"}
"""A Linear tells only how many values a patch has."""
FLOAT64 = 1e-10
"""The same with the loaded module run in float64: only a different function is further away."""


def images_for(spec: Spec, seed: int = 1) -> NDArray[np.float32]:
    shape = (3, spec.channels, *spec.image_size)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def disagreement(
    loaded: Checkpoint, expected: NDArray[np.float64], images: NDArray[np.float32], dtype: torch.dtype
) -> float:
    """max |Δ logit| / max |logit|, with the loaded module run in `dtype`."""
    with torch.no_grad():
        logits = loaded.module.to(dtype)(torch.from_numpy(images).to(dtype)).numpy()
    assert logits.shape == expected.shape
    return float(np.abs(logits - expected).max() / np.abs(expected).max())


@settings(max_examples=100, deadline=None)
@given(cases())
def test_any_model_under_any_names_answers_as_the_reference(case: Case) -> None:
    weights, images = random_weights(case.spec, case.seed), images_for(case.spec)
    written = state_dict(case.names.write(weights, case.spec, case.numbering))
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_checkpoint(saved(Path(folder) / "model.pt", written), overrides=options(case.spec))
    assert isinstance(loaded.module, ParaFormer)
    assert loaded.convention == CONVENTIONS[case.convention][1]
    assert loaded.spec == case.spec
    assert disagreement(loaded, reference.logits(weights, case.spec, images), images, torch.float64) <= FLOAT64


@pytest.mark.parametrize("residual", ["input", "normalized", "post"])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_in_float32_the_answers_are_as_close_as_float32_allows(convention: str, residual: Any, tmp_path: Path) -> None:
    names, _ = CONVENTIONS[convention]
    norm = names.fixed.get("norm", "after")
    spec = replace(usual_spec(names, branches=16, depth=3, norm=norm), residual=residual)
    weights, images = random_weights(spec), images_for(spec)
    loaded = load(tmp_path, names.write(weights, spec), **options(spec))
    assert disagreement(loaded, reference.logits(weights, spec, images), images, torch.float32) <= FLOAT32


def usual_spec(names: Names, **fields: Any) -> Spec:
    """A small square spec with everything that goes without saying under these names."""
    overrides = {"patch_projection": "conv", **names.fixed, **names.usual, **fields}
    return replace(SMALL, **overrides)


def load(folder: Path, written: Any, **overrides: str) -> Checkpoint:
    return load_checkpoint(saved(folder / "model.pt", state_dict(written)), overrides=overrides)


def assumed(loaded: Checkpoint) -> dict[str, str]:
    """What was assumed of the model, by field; how its images are prepared is left out."""
    images = ("mean", "std", "resize", "interpolation", "image_size", "labels")
    return {item.field: item.value for item in loaded.assumptions if item.field not in images}


@pytest.mark.parametrize(
    ("convention", "overrides", "expected_assumptions"),
    [
        ("paraformer", {"heads": "2"}, {"residual": "input", "activation": "gelu", "eps": "1e-05", "pool": "cls"}),
        ("released", {}, {"heads": "2", "pool": "cls", **LINEAR}),
        ("timm", {"heads": "2"}, {"pool": "cls"}),
        ("vit-pytorch", {"heads": "2"}, {"pool": "cls", **LINEAR}),
        ("vit-pytorch-old", {"heads": "2"}, {"pool": "cls", **LINEAR}),
        ("torch", {"heads": "2"}, {"residual": "post", "activation": "relu", "pool": "cls"}),
        ("hf-old", {"heads": "2"}, {}),
        ("hf-new", {"heads": "2"}, {}),
    ],
)
@pytest.mark.parametrize("branches", [1, 2])
def test_names_settle_what_they_imply_and_the_rest_is_assumed_aloud(
    convention: str, overrides: dict[str, str], expected_assumptions: dict[str, str], branches: int, tmp_path: Path
) -> None:
    names, _ = CONVENTIONS[convention]
    guessed: dict[str, Any] = {
        key: value for key, value in expected_assumptions.items() if key in ("residual", "activation")
    }
    spec = usual_spec(
        names,
        branches=branches,
        norm="before" if convention == "torch" else names.fixed.get("norm", "after"),
        **guessed,
    )
    for numbering in range(len(names.prefixes)):
        loaded = load(tmp_path, names.write(random_weights(spec), spec, numbering), **overrides)
        assert loaded.spec == spec
        joined = branches == 1 or convention in {"paraformer", "released"}
        assert assumed(loaded) == (expected_assumptions if joined else {**expected_assumptions, "join": "sum"})


@pytest.mark.parametrize("convention", [name for name in CONVENTIONS if name != "released"])
def test_heads_are_asked_for_where_only_their_product_is_known(convention: str, tmp_path: Path) -> None:
    names, _ = CONVENTIONS[convention]
    spec = usual_spec(names)
    with pytest.raises(SpecError, match=r"heads × head_dim = 16, so it is one of 1, 2, 4, 8, 16 "):
        load(tmp_path, names.write(random_weights(spec), spec))


def test_head_dim_says_as_much_as_heads(tmp_path: Path) -> None:
    spec = usual_spec(TIMM)
    loaded = load(tmp_path, TIMM.write(random_weights(spec), spec), head_dim="8")
    assert loaded.spec == spec


def test_vit_pytorch_heads_are_assumed_from_its_default_dim_head(tmp_path: Path) -> None:
    spec = usual_spec(VIT_PYTORCH, heads=2, head_dim=64)
    loaded = load(tmp_path, VIT_PYTORCH.write(random_weights(spec), spec))
    assert loaded.spec == spec
    assert assumed(loaded) == {"heads": "2", "pool": "cls", "join": "sum", **LINEAR}


@pytest.mark.parametrize(("convention", "head_dim"), [("vit-pytorch", 16), ("vit-pytorch-old", 16), ("released", 64)])
def test_one_head_of_full_width_goes_without_an_output_projection(
    convention: str, head_dim: int, tmp_path: Path
) -> None:
    names, _ = CONVENTIONS[convention]
    spec = usual_spec(names, dim=head_dim, heads=1, head_dim=head_dim)
    weights = random_weights(spec)
    for name in [name for name in weights if ".attention.output." in name]:
        weights[name] = (
            np.eye(head_dim, dtype=np.float32) if name.endswith("weight") else np.zeros(head_dim, np.float32)
        )
    written = {key: value for key, value in names.write(weights, spec).items() if "to_out" not in key}
    loaded, images = load(tmp_path, written), images_for(spec)
    assert loaded.spec == spec
    assert disagreement(loaded, reference.logits(weights, spec, images), images, torch.float64) <= FLOAT64


def test_a_class_token_without_a_position_has_position_zero(tmp_path: Path) -> None:
    spec = usual_spec(TIMM)
    weights = random_weights(spec)
    weights["embedding.position"][:, 0] = 0
    written = TIMM.write(weights, spec)
    written["pos_embed"] = written["pos_embed"][:, 1:]
    loaded, images = load(tmp_path, written, heads="2"), images_for(spec)
    assert disagreement(loaded, reference.logits(weights, spec, images), images, torch.float64) <= FLOAT64


def test_fc_norm_means_the_mean_over_patches_with_the_norm_behind_it(tmp_path: Path) -> None:
    spec = usual_spec(TIMM, pool="patch_mean", norm="after")
    weights = random_weights(spec)
    written = {
        key.replace("norm.", "fc_norm.") if key.startswith("norm.") else key: value
        for key, value in TIMM.write(weights, spec).items()
    }
    loaded, images = load(tmp_path, written, heads="2"), images_for(spec)
    assert loaded.spec == spec
    assert disagreement(loaded, reference.logits(weights, spec, images), images, torch.float64) <= FLOAT64


def test_a_linear_without_a_bias_adds_nothing(tmp_path: Path) -> None:
    spec = usual_spec(TORCH, norm="before", residual="post", activation="relu")
    weights = random_weights(spec)
    for name in [name for name in weights if name.endswith(".bias") and name.startswith(("branches", "head"))]:
        weights[name][:] = 0
    written = {key: value for key, value in TORCH.write(weights, spec).items() if value.any()}
    loaded, images = load(tmp_path, written, heads="2"), images_for(spec)
    assert disagreement(loaded, reference.logits(weights, spec, images), images, torch.float64) <= FLOAT64


@pytest.mark.parametrize("numbering", range(3))
def test_the_released_code_with_one_layer_a_branch_is_told_from_layers_by_its_words(
    numbering: int, tmp_path: Path
) -> None:
    spec = usual_spec(RELEASED, branches=4, depth=1)
    loaded = load(tmp_path, RELEASED.write(random_weights(spec), spec, numbering))
    assert (loaded.convention, loaded.spec) == ("released", spec)


def test_where_words_do_not_tell_released_from_old_vit_pytorch_both_readings_are_named(tmp_path: Path) -> None:
    spec = usual_spec(RELEASED, branches=4, depth=1)
    ambiguous = replace(RELEASED, prefixes=("net.{l}",))
    written = ambiguous.write(random_weights(spec), spec)
    loaded = load(tmp_path, written)
    reason = next(item.reason for item in loaded.assumptions if item.field == "residual")
    assert loaded.spec is not None
    assert (loaded.spec.branches, loaded.spec.depth, loaded.spec.residual) == (1, 4, "input")
    assert "released" in reason
    assert "--spec residual=normalized" in reason
    released_model = load(tmp_path, written, residual="normalized")
    assert (released_model.convention, released_model.spec) == ("released", spec)
    assert "residual" not in assumed(released_model)


def test_one_number_that_may_count_either_is_taken_for_layers_until_told(tmp_path: Path) -> None:
    spec = usual_spec(TIMM, branches=3, depth=1)
    written = replace(TIMM, prefixes=("stages.{l}",)).write(random_weights(spec), spec)
    assert assumed(load(tmp_path, written, heads="2")) == {"depth": "3", "pool": "cls"}
    settled = load(tmp_path, written, heads="2", branches="3")
    assert settled.spec == spec
    assert assumed(settled) == {"pool": "cls", "join": "sum"}
    assert assumed(load(tmp_path, written, heads="2", branches="3", join="sum")) == {"pool": "cls"}


def test_two_numbers_without_words_count_branches_first_until_told(tmp_path: Path) -> None:
    spec = usual_spec(TIMM, branches=3, depth=2)
    written = replace(TIMM, prefixes=("stages.{m}.{l}",)).write(random_weights(spec), spec)
    taken = load(tmp_path, written, heads="2")
    assert taken.spec == replace(spec, branches=2, depth=3)
    assert assumed(taken)["branches"] == "2"
    assert load(tmp_path, written, heads="2", branches="3").spec == spec


def test_counting_may_start_at_one_where_there_is_one(tmp_path: Path) -> None:
    spec = usual_spec(TIMM, branches=1, depth=1)
    written = replace(TIMM, prefixes=("branches.7.blocks.3",)).write(random_weights(spec), spec)
    assert load(tmp_path, written, heads="2").spec == spec


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_first_branches_alone_are_the_same_sum_cut_short(convention: str, tmp_path: Path) -> None:
    names, _ = CONVENTIONS[convention]
    spec = usual_spec(names, branches=4, norm="before" if convention == "torch" else names.fixed.get("norm", "after"))
    weights, images = random_weights(spec), images_for(spec)
    path = saved(tmp_path / "model.pt", state_dict(names.write(weights, spec)))
    loaded = load_checkpoint(path, overrides=options(spec), branches=3)
    shorter = replace(spec, branches=3)
    assert loaded.spec == shorter
    assert disagreement(loaded, reference.logits(weights, shorter, images), images, torch.float64) <= FLOAT64


def test_a_class_token_of_no_tokens_is_none(tmp_path: Path) -> None:
    """vit-pytorch keeps one of shape [0, D] where it averages, and positions without a batch, [N, D]."""
    names, _ = CONVENTIONS["vit-pytorch"]
    spec = usual_spec(names, pool="mean", class_token=False)
    weights, images = random_weights(spec), images_for(spec)
    written = names.write(weights, spec)
    written["cls_token"] = np.zeros((0, spec.dim), np.float32)
    written["pos_embedding"] = written["pos_embedding"][0]
    loaded = load(tmp_path, written, heads="2")
    assert loaded.spec == spec
    assert disagreement(loaded, reference.logits(weights, spec, images), images, torch.float64) <= FLOAT64
