"""Wrong values of fields that nothing verifies are reported with the values of the training, on labelled images."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import paraexport
from paraexport.checkpoint.recorded_accuracy import is_accuracy, recorded_accuracy
from paraexport.model.scores import cross_entropy
from paraexport.pipeline import images, reading
from paraexport.pipeline.doubtful_fields import doubts, is_better
from paraexport.pipeline.options import Options
from tests.conftest import DIGITS, ROOT, TEST_IMAGES

NOISY = ROOT / "models/noisy_digits.pt"
DATA = {DIGITS: TEST_IMAGES, NOISY: ROOT / "calib/noisy_digits.npz"}


def warnings_for(path: Path, folder: Path, spec: dict[str, Any], **more: Any) -> list[str]:
    """The doubts about the weights alone, as a build has them before it traces the model."""
    content = torch.load(path, weights_only=True)
    torch.save({"state_dict": content["state_dict"], **more}, folder / "bare.pt")
    options = Options(spec=spec, data=DATA[path])
    loaded = reading.load(folder / "bare.pt", options.reading)
    samples, _ = images.open_all(options.images, loaded)
    return [*doubts(loaded, samples, images.pytorch_answers(loaded, samples, 64).logits, options.reading)]


@pytest.mark.parametrize(
    ("path", "spec", "remedy"),
    [
        (DIGITS, {"heads": 4}, "--spec residual=normalized"),
        (DIGITS, {"heads": 2, "std": 1}, "--spec residual=normalized --spec std=0.5 --spec mean=0.5"),
        (DIGITS, {"heads": 2, "residual": "normalized", "mean": 0.485, "std": 0.229}, "--spec mean=0.5 --spec std=0.5"),
        (NOISY, {"heads": 8}, "--spec heads=VALUE --spec residual=normalized"),
    ],
)
def test_wrong_values(path: Path, spec: dict[str, Any], remedy: str, tmp_path: Path) -> None:
    (line,) = warnings_for(path, tmp_path, spec)
    assert line.endswith(f"if the model was trained so, give {remedy}")


def test_the_right_heads_are_among_those_that_fit(tmp_path: Path) -> None:
    (line,) = warnings_for(DIGITS, tmp_path, {"heads": 1})
    heads = torch.load(DIGITS, weights_only=True)["spec"]["heads"]
    assert f"heads={heads} or" in line


@pytest.mark.parametrize("path", DATA)
def test_no_warning_for_the_right_values(path: Path, tmp_path: Path) -> None:
    spec = torch.load(path, weights_only=True)["spec"]
    assert warnings_for(path, tmp_path, {"heads": spec["heads"], "residual": spec["residual"]}) == []


def test_far_below_the_recorded_accuracy(tmp_path: Path) -> None:
    lines = warnings_for(DIGITS, tmp_path, {"heads": 1}, best_acc1=torch.tensor(99.1))
    assert "but the checkpoint records best_acc1 = 99.1 %" in lines[0]
    right = {"heads": 2, "residual": "normalized"}
    assert warnings_for(DIGITS, tmp_path, {**right, "eps": 1e-5}, best_acc1=0.991) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"best_acc1": 76.3}, 76.3),
        ({"val_accuracy": 0.5, "epoch": 90}, 50.0),
        ({"metrics": {"val/top1": np.float64(61.5), "val/top5": 90.0}}, 61.5),
        ({"callbacks": {"ModelCheckpoint": {"monitor": "val_acc", "best_model_score": torch.tensor(0.25)}}}, 25.0),
        ({"best_prec1": 1}, 100.0),
        ({"test_acc": 80.0, "best_acc": 82.5}, 82.5),
        ({"train_acc": 0.9, "acc5": 0.99, "best_loss": 0.2, "accumulate": 1, "best_acc": float("nan")}, None),
        ({"best_acc": True, "val_acc": "high", "acc": 250}, None),
        ([], None),
    ],
)
def test_recorded_accuracy(content: object, expected: float | None) -> None:
    record = recorded_accuracy(content)
    assert (None if record is None else record.percent) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["vacc", "best", "accuracy_loss", "train/acc", "acc_steps", "top5", ""])
def test_other_names(name: str) -> None:
    assert not is_accuracy(name)


def test_improvement_by_chance() -> None:
    """With 16 fair coins, a surplus of 12 is three standard deviations."""
    one_sided = np.arange(100) < 9
    assert is_better(one_sided, np.zeros(100, bool))
    assert not is_better(np.arange(100) < 8, np.zeros(100, bool))
    mixed = np.arange(100) % 2 == 0
    assert not is_better(mixed, ~mixed)


def test_cross_entropy() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((20, 5)) * 50, rng.integers(0, 5, 20)
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels), reduction="none")
    np.testing.assert_allclose(cross_entropy(logits, labels), expected.numpy(), atol=1e-9)


def test_folders_name_the_classes(tmp_path: Path) -> None:
    names = ["a zero", "b one", "c two", "d three", "e four", "f five", "g six", "h seven", "i eight", "j nine"]
    for number, name in enumerate(names):
        shutil.copytree(TEST_IMAGES / str(number), tmp_path / "photos" / name)
    content = torch.load(DIGITS, weights_only=True)
    torch.save(content, tmp_path / "named.pt")
    torch.save(content["state_dict"], tmp_path / "bare.pt")
    spec = {"heads": 2, "residual": "normalized"}
    built = paraexport.build(tmp_path / "bare.pt", tmp_path / "m.bundle", spec=spec, data=tmp_path / "photos")
    assert built.manifest.labels == tuple(names)
    (assumed,) = [item for item in built.manifest.assumptions if item.field == "labels"]
    assert "names of the class folders, in string order" in assumed.reason
    options = Options(data=tmp_path / "photos")
    loaded = reading.load(tmp_path / "named.pt", options.reading)
    named, _ = images.with_folder_names(loaded, images.open_all(options.images, loaded)[0])
    assert named.labels == tuple(map(str, range(10)))  # the checkpoint's own names win
