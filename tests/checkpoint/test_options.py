"""`--spec FIELD=VALUE`, configs beside the weights, labels and preprocessing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from paraexport.checkpoint.load import Checkpoint, load_checkpoint
from paraexport.errors import SpecError
from paraexport.model.spec import Preprocessing
from tests.checkpoint.test_conventions import usual_spec
from tests.checkpoint.test_wrappers import SPEC, released
from tests.checkpoint.writers import HF_NEW, HF_OLD, TIMM, Names, random_weights, saved, state_dict


def load(folder: Path, **overrides: str) -> Checkpoint:
    return load_checkpoint(saved(folder / "a.pt", released()), overrides=overrides)


def refused(folder: Path, **overrides: str) -> str:
    with pytest.raises(SpecError) as caught:
        load(folder, **overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("typo", "guess"), [("head", "heads"), ("heds", "heads"), ("pol", "pool"), ("activation_fn", "activation")]
)
def test_an_unknown_field_comes_with_a_guess_and_the_list(typo: str, guess: str, tmp_path: Path) -> None:
    message = refused(tmp_path, **{typo: "3"})
    assert f"{typo}: no such field, did you mean {guess}?" in message
    assert "the fields are image_size, channels, classes" in message


def test_all_wrong_options_are_told_at_once(tmp_path: Path) -> None:
    message = refused(tmp_path, heds="3", pool="middle", eps="9")
    assert "heds: no such field" in message
    assert "pool=middle: expected one of cls, mean, patch_mean" in message
    assert "eps=9: expected a number between 0 and 1" in message


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        *[("heads", value, "a whole number") for value in ("0", "-1", "x", "1.5", "", "²", "9" * 5000)],
        *[("image_size", value, "expected") for value in ("8x8x8", "x", "8x", "0x8", "8 8")],
        *[("eps", value, "a number between 0 and 1") for value in ("0", "1", "nan", "1e-5,1", "tiny")],
        *[("mean", value, "expected") for value in ("127", "a", "0.1,,0.2", "nan")],
        *[("std", value, "expected") for value in ("0", "-1", "inf", "255")],
        ("residual", "pre", "one of input, normalized, post"),
        ("class_token", "maybe", "true or false"),
        ("interpolation", "cubic", "one of nearest, bilinear, bicubic, lanczos"),
    ],
)
def test_an_impossible_value_is_told_with_what_was_expected(
    field: str, value: str, expected: str, tmp_path: Path
) -> None:
    message = refused(tmp_path, **{field: value})
    assert f"--spec {field}={value[:200]}: " in message
    assert expected in message


@pytest.mark.parametrize(
    ("field", "value", "in_weights"),
    [
        ("classes", "7", "5"),
        ("dim", "16", "12"),
        ("branches", "9", "2"),
        ("depth", "1", "2"),
        ("mlp_dim", "3", "24"),
        ("class_token", "false", "true"),
        ("qkv_bias", "true", "false"),
        ("layer_scale", "true", "false"),
        ("patch_projection", "conv", "linear"),
    ],
)
def test_an_option_that_contradicts_the_weights_is_refused(
    field: str, value: str, in_weights: str, tmp_path: Path
) -> None:
    assert f"{field} is {in_weights} in the weights, but {value} in --spec" in refused(tmp_path, **{field: value})


def test_an_option_that_agrees_with_the_weights_is_welcome(tmp_path: Path) -> None:
    assert load(tmp_path, dim="12", branches="2", class_token="true", heads="1").spec == SPEC


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"heads": "5"}, "heads=5 is not possible (expected heads × head_dim = 64"),
        ({"heads": "2", "head_dim": "16"}, "heads=2 and head_dim=16 is not possible"),
        ({"image_size": "16"}, "image_size=16x16 gives 4 × 4 patches of 4x4 (expected 4 patches"),
        ({"image_size": "9x8"}, "image height 9 is not a multiple of patch height 4"),
        ({"patch_size": "5"}, "patch_size 5x5 does not divide to_patch_embedding.1.weight"),
        ({"mean": "0.1,0.2"}, "mean has 2 numbers (expected one, or one for each of 3 channels)"),
    ],
)
def test_an_option_that_cannot_be_is_told_why(given: dict[str, str], message: str, tmp_path: Path) -> None:
    assert message in refused(tmp_path, **given)


@pytest.mark.parametrize("count", [-1, 0, 3])
def test_more_branches_than_there_are(count: int, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=rf"cannot keep {count} branches \(expected 1..2\)"):
        load_checkpoint(saved(tmp_path / "a.pt", released()), branches=count)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "cat\ndog\neel\nfox\ngnu\n"),
        ("a.txt", "\ufeffcat\r\ndog \r\n eel\r\nfox\r\ngnu\r\n\r\n"),
        ("a.json", '["cat", "dog", "eel", "fox", "gnu"]'),
        ("a.json", '{"1": "dog", "0": "cat", "2": "eel", "3": "fox", "4": "gnu"}'),
    ],
)
def test_labels_in_a_file(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert load(tmp_path, labels=str(tmp_path / name)).labels == ("cat", "dog", "eel", "fox", "gnu")


def test_a_label_of_two_classes_is_reported(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\ncat\neel\nfox\n")
    loaded = load(tmp_path, labels=str(tmp_path / "labels.txt"))
    (assumption,) = (item for item in loaded.assumptions if item.field == "labels")
    assert (assumption.value, "several classes have the same name" in assumption.reason) == ("cat twice", True)


def test_classes_without_labels_are_numbered(tmp_path: Path) -> None:
    assert load(tmp_path).labels == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat\ndog\n", "the labels do not fit the model (expected 5 labels, got 2)"),
        ("cat\n\neel\n", "line 2 is empty"),
        ("", "expected one name per class"),
        ('["cat", 3]', "expected one name per class"),
        ('{"0": "cat", "2": "dog"}', "expected the classes 0..1 as keys"),
        ('{"0": ', "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_labels_that_cannot_be(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text(content)
    assert message in refused(tmp_path, labels=str(tmp_path / "labels"))


def test_a_labels_file_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refused(tmp_path, labels=str(tmp_path / "labels"))


def test_preprocessing_is_what_the_options_say(tmp_path: Path) -> None:
    loaded = load(tmp_path, mean="0.1,0.2,0.3", std="0.5", resize="9", interpolation="bicubic")
    assert loaded.preprocessing == Preprocessing(
        image_size=(8, 8), channels=3, resize=9, interpolation="bicubic", mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5)
    )


def test_preprocessing_nobody_spoke_of_is_assumed_aloud(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert (loaded.preprocessing.mean, loaded.preprocessing.std) == ((0.5,) * 3, (0.2,) * 3)
    assert {"mean", "std", "resize", "interpolation"} <= {item.field for item in loaded.assumptions}


def beside(folder: Path, names: Names, *, configs: dict[str, Any]) -> Checkpoint:
    """A model saved as Hugging Face does, with its configs beside it."""
    spec = usual_spec(names)
    path = folder / "model.safetensors"
    path.write_bytes(safetensors.torch.save(state_dict(names.write(random_weights(spec), spec))))
    for name, config in configs.items():
        (folder / name).write_text(json.dumps(config))
    loaded = load_checkpoint(path)
    assert loaded.spec == spec
    return loaded


@pytest.mark.parametrize("names", [HF_OLD, HF_NEW])
def test_the_configs_of_hugging_face(names: Names, tmp_path: Path) -> None:
    config = {
        "architectures": ["ViTForImageClassification"], "hidden_act": "gelu", "hidden_size": 16, "image_size": 8,
        "layer_norm_eps": 1e-12, "model_type": "vit", "num_attention_heads": 2, "num_channels": 3, "patch_size": 4,
        "id2label": {str(index): name for index, name in enumerate("abcde")},
    }  # fmt: skip
    images = {
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.4, 0.5, 0.6],
        "resample": 3,
        "size": {"height": 8, "width": 8},
    }
    loaded = beside(tmp_path, names, configs={"config.json": config, "preprocessor_config.json": images})
    assert loaded.labels == tuple("abcde")
    assert [item.field for item in loaded.assumptions] == ["join"]
    assert loaded.preprocessing == Preprocessing(
        image_size=(8, 8), channels=3, resize=(8, 8), interpolation="bicubic", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)
    )


def test_the_config_of_timm(tmp_path: Path) -> None:
    config = {
        "architecture": "vit_tiny", "num_classes": 5, "num_heads": 2, "global_pool": "token",
        "pretrained_cfg": {
            "input_size": [3, 8, 8], "crop_pct": 0.8, "interpolation": "bicubic", "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
        },
    }  # fmt: skip
    loaded = beside(tmp_path, TIMM, configs={"config.json": config})
    assert [item.field for item in loaded.assumptions] == ["join", "labels"]
    assert loaded.preprocessing == Preprocessing(
        image_size=(8, 8), channels=3, resize=10, interpolation="bicubic", mean=(0.5,) * 3, std=(0.25,) * 3
    )


def test_a_config_of_another_matter_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"size": "large", "mean": "harmonic", "data": 3, "model": "vit"}))
    assert load(tmp_path).spec == SPEC
