"""Every field, under every convention: settled by evidence, or listed as an assumption, or asked for.

Two models that differ in one field are written under the same names. Where their files have the same names and shapes,
nobody can tell them apart, so that the field must be listed, unless the names are known to imply it (`Names.usual`) or
both models are the same function.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from paraexport.checkpoint.given import FIELDS, Guesses
from paraexport.checkpoint.load import Checkpoint, from_weights
from paraexport.checkpoint.overrides import parse_overrides
from paraexport.checkpoint.wrappers import Weights
from paraexport.cli.output import warn_of
from paraexport.errors import SpecError
from paraexport.findings import describe
from paraexport.model.spec import Classifier, Preprocessing, Spec
from tests import reference
from tests.checkpoint.test_conventions import images_for, usual_spec
from tests.checkpoint.writers import CONVENTIONS, TORCH, Names, random_weights, state_dict

OTHERS: dict[str, list[dict[str, Any]]] = {
    "image_size": [{"image_size": (4, 16)}],
    "channels": [{"channels": 1}, {"channels": 1, "patch_size": (6, 8), "image_size": (12, 16)}],
    "classes": [{"classes": 6}],
    "patch_size": [{"patch_size": (2, 2), "image_size": (4, 4)}, {"patch_size": (2, 8), "image_size": (4, 16)}],
    "dim": [{"dim": 24}],
    "branches": [{"branches": 3}],
    "depth": [{"depth": 3}],
    "heads": [{"heads": 4, "head_dim": 4}],
    "head_dim": [{"heads": 4, "head_dim": 4}],
    "mlp_dim": [{"mlp_dim": 20}],
    "residual": [{"residual": value} for value in ("input", "normalized", "post")],
    "activation": [{"activation": value} for value in ("gelu", "gelu_tanh", "relu")],
    "pool": [{"pool": value} for value in ("cls", "mean", "patch_mean")],
    "norm": [{"norm": value} for value in ("before", "after", "none")],
    "eps": [{"eps": 1e-3}],
    "patch_projection": [{"patch_projection": "linear"}, {"patch_projection": "conv"}],
    "patch_norms": [{"patch_norms": True, "patch_projection": "linear"}],
    "class_token": [{"class_token": False, "pool": "mean"}],
    "qkv_bias": [{"qkv_bias": False}],
    "layer_scale": [{"layer_scale": True}],
}
"""Other values of each field, with what must change along."""


def base(names: Names, pool: str) -> Spec:
    first_norm = "before" if names is TORCH else names.fixed.get("norm", "after")
    return usual_spec(names, **{"norm": first_norm, "heads": 2, "head_dim": 8, "depth": 2, "pool": pool, **names.fixed})


def pairs() -> Iterator[tuple[str, str, str, Spec, Spec]]:
    for convention, (names, _) in CONVENTIONS.items():
        for pool in ("cls", "mean", "patch_mean"):
            first = base(names, pool)
            for field, changes in OTHERS.items():
                for change in changes:
                    second = dataclasses.replace(first, **change)
                    if second == first or second.problems() or not fits(second, names):
                        continue
                    if pool == "cls" or field in ("norm", "class_token", "pool"):
                        label = f"{convention}-{pool}-{field}-{'-'.join(map(str, change.values()))}"
                        yield label, convention, field, first, second


def fits(spec: Spec, names: Names) -> bool:
    return all(getattr(spec, field) == value for field, value in names.fixed.items() if field != "head_dim")


def load(names: Names, spec: Spec, **options: str) -> Checkpoint:
    written = state_dict(names.write(random_weights(spec), spec))
    return from_weights(Weights(written), {}, parse_overrides(options), Guesses())


def listed(loaded: Checkpoint) -> set[str]:
    return {item.field for item in loaded.assumptions}


def options(names: Names, spec: Spec, field: str) -> dict[str, str]:
    """What a user must say, and the pool where the names imply another; nothing of `field` itself."""
    given = {"heads": str(spec.heads)} if names.fixed.get("head_dim") != spec.head_dim else {}
    if field in ("norm", "class_token") and spec.pool != "cls":
        given["pool"] = spec.pool
    if field in ("heads", "head_dim"):
        given.pop("heads", None)
    return given


PAIRS = list(pairs())


@pytest.mark.parametrize(
    ("convention", "field", "first", "second"), [pair[1:] for pair in PAIRS], ids=[p[0] for p in PAIRS]
)
def test_a_field_is_settled_by_evidence_or_listed(convention: str, field: str, first: Spec, second: Spec) -> None:
    names, _ = CONVENTIONS[convention]
    signatures = [
        {key: value.shape for key, value in names.write(random_weights(spec), spec).items()} for spec in (first, second)
    ]
    if signatures[0] != signatures[1]:
        specs = [settled(names, spec, field) for spec in (first, second)]
        for spec, found in zip((first, second), specs, strict=True):
            assert found is None or field in listed(found) or getattr(found.spec, field) == getattr(spec, field)
        return
    weights, images = random_weights(first), images_for(first)
    if first.image_size == second.image_size and np.allclose(
        reference.logits(weights, first, images), reference.logits(weights, second, images), atol=1e-12
    ):
        return  # the same function
    found = settled(names, first, field)
    implied = found is not None and field in names.usual and getattr(found.spec, field) == names.usual[field]
    assert found is None or field in listed(found) or implied


def settled(names: Names, spec: Spec, field: str) -> Checkpoint | None:
    """The loaded model, or None where `field` is asked for."""
    try:
        return load(names, spec, **options(names, spec, field))
    except SpecError as error:
        message = str(error)
    asked = {"head_dim": "heads", "channels": "patch_size"}.get(field, field)
    assert f"--spec {asked}=" in message
    return None


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_field_of_the_preprocessing_is_listed(convention: str) -> None:
    names, _ = CONVENTIONS[convention]
    spec = base(names, "cls")
    own = {field.name for field in dataclasses.fields(Preprocessing)} - {
        field.name for field in dataclasses.fields(Classifier)
    }
    own.remove("resample")  # there is one order only
    assert own == {"resize", "interpolation", "mean", "std"}
    assert own <= listed(load(names, spec, **options(names, spec, "")))


def test_no_field_of_a_spec_is_left_out_here() -> None:
    assert OTHERS.keys() == {field.name for field in dataclasses.fields(Spec)}


@pytest.mark.parametrize("pool", ["cls", "mean", "patch_mean"])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_line_that_lists_a_field_names_the_option_that_settles_it(
    convention: str, pool: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    names, _ = CONVENTIONS[convention]
    spec = base(names, pool)
    given = {**options(names, spec, ""), "pool": pool}
    loaded = load(names, spec, **given)
    for item in loaded.assumptions:
        assert item.field in FIELDS
        warn_of(describe.assumptions([item], FIELDS))
        printed = capsys.readouterr().err
        assert f"{item.field} = {item.value}" in printed
        assert "give --spec FIELD=VALUE" in printed
        value = item.value
        if item.field == "labels":
            (tmp_path / "labels.txt").write_text("\n".join(map(str, range(spec.classes))))
            value = str(tmp_path / "labels.txt")
        again = load(names, spec, **given, **{item.field: value})
        assert item.field not in listed(again)
        assert (again.spec, again.preprocessing) == (loaded.spec, loaded.preprocessing)


def test_the_place_of_the_norm_of_torch_encoders_that_are_averaged_is_listed() -> None:
    spec = base(TORCH, "mean")
    before, after = dataclasses.replace(spec, norm="before"), dataclasses.replace(spec, norm="after")
    weights, images = random_weights(spec), images_for(spec)
    logits = [reference.logits(weights, each, images) for each in (before, after)]
    assert np.abs(logits[0] - logits[1]).max() > 0.1 * np.abs(logits[0]).max()
    given = {"heads": "2", "pool": "mean"}
    assert "norm" in listed(load(TORCH, before, **given))
    for each in (before, after):
        loaded = load(TORCH, each, **given, norm=each.norm)
        assert loaded.spec is not None
        assert loaded.spec.norm == each.norm
        assert "norm" not in listed(loaded)


class UnpackedSize(nn.Module):
    """One encoder layer behind patches in the order of `nn.Unfold`: (channel, row, column)."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embedding = nn.Linear(48, 16)
        self.pos_embedding = nn.Parameter(torch.randn(1, 4, 16))
        self.branches = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 24, batch_first=True) for _ in range(2))
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = nn.functional.unfold(images, 4, stride=4).transpose(1, 2)
        tokens = self.patch_embedding(patches) + self.pos_embedding
        return self.head(self.norm(sum(branch(tokens) for branch in self.branches)).mean(1))


def test_the_order_inside_a_patch_is_listed_and_can_be_said() -> None:
    torch.manual_seed(0)
    module = UnpackedSize().eval()
    tensors = {name: value.clone() for name, value in module.state_dict().items()}
    given = {"heads": "2", "norm": "before"}
    unpermuted = from_weights(Weights(dict(tensors)), {}, parse_overrides(given), Guesses())
    assert "patch_order" in listed(unpermuted)
    permuted = from_weights(
        Weights(dict(tensors)), {}, parse_overrides({**given, "patch_order": "channel_first"}), Guesses()
    )
    assert "patch_order" not in listed(permuted)
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = module.double()(images)
        right = (permuted.module.double()(images) - expected).abs().max() / expected.abs().max()
        wrong = (unpermuted.module.double()(images) - expected).abs().max() / expected.abs().max()
    assert right <= 1e-10
    assert wrong > 0.01


def test_norms_without_biases_may_be_of_another_kind() -> None:
    names, spec = CONVENTIONS["timm"][0], base(CONVENTIONS["timm"][0], "cls")
    written = state_dict(names.write(random_weights(spec), spec))
    tensors = {key: value for key, value in written.items() if not ("norm" in key and key.endswith("bias"))}
    loaded = from_weights(Weights(tensors), {}, parse_overrides({"heads": "2"}), Guesses())
    assert "RMSNorm" in next(item.reason for item in loaded.assumptions if item.field == "norms")


def test_stages_that_may_follow_one_another_are_not_silently_branches() -> None:
    names = dataclasses.replace(CONVENTIONS["timm"][0], prefixes=("stages.{l}.blocks.{m}",))
    spec = usual_spec(names)
    assert "branches" in listed(load(names, spec, heads="2"))
    assert "branches" not in listed(load(names, spec, heads="2", branches="2"))


def test_blocks_that_a_user_calls_branches_are_branches() -> None:
    names = dataclasses.replace(CONVENTIONS["timm"][0], prefixes=("blocks.{l}",))
    spec = usual_spec(names, branches=3, depth=1)
    assert load(names, spec, heads="2", branches="3").spec == spec


def test_a_size_that_images_are_resized_to_is_the_size_of_the_model_where_it_fits() -> None:
    names = CONVENTIONS["hf-new"][0]
    spec = usual_spec(names, image_size=(4, 16))
    written = Weights(state_dict(names.write(random_weights(spec), spec)))
    config = {"preprocessor_config.json": {"size": {"height": 4, "width": 16}}}
    loaded = from_weights(written, config, parse_overrides({"heads": "2"}), Guesses())
    assert loaded.spec == spec
    assert "image_size" in listed(loaded)
