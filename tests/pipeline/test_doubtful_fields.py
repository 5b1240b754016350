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
from paraexport.errors import SpecError
from paraexport.model.scores import cross_entropy
from paraexport.pipeline import images, open_fields, reading
from paraexport.pipeline.doubtful_fields import better_values, doubts, is_better
from paraexport.pipeline.options import Options
from paraexport.pipeline.trial import Trial
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
    logits = images.pytorch_answers(loaded, samples, 64).logits
    return [*doubts(loaded, samples, logits, options.reading, size=64, pytorch_s=1000)]


@pytest.mark.parametrize(
    ("path", "spec", "remedy"),
    [
        (DIGITS, {"heads": 4}, "--spec residual=normalized"),
        (DIGITS, {"heads": 2, "std": 1}, "--spec residual=normalized --spec mean=0.5 --spec std=0.5"),
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
        ({"best_prec1": 1.0}, 100.0),
        ({"test_acc": 80.0, "best_acc": 82.5}, 82.5),
        ({"train": {"acc": 1.0}, "val": {"acc": 0.8}}, 80.0),
        ({"acc_val": 0.7}, 70.0),
        ({"val_acc1_ema": 71.0}, 71.0),
        ({"metrics/accuracy_top1": 0.6}, 60.0),
        ({"best_acc": "93.2"}, 93.2),
        ({"top5": {"acc": 0.99}}, None),
        ({"history": {"train": {"accuracy": 0.9999}}}, None),
        ({"config": {"acc": 0.5}, "args": {"max_acc": 0.99}, "state_dict": {"acc": torch.tensor(0.3)}}, None),
        ({"top1": 1}, None),
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


def test_the_search_ends_in_time(tmp_path: Path) -> None:
    torch.save(torch.load(NOISY, weights_only=True)["state_dict"], tmp_path / "bare.pt")
    options = Options(spec={"heads": "1"}, data=DATA[NOISY])
    loaded = reading.load(tmp_path / "bare.pt", options.reading)
    samples, _ = images.open_all(options.images, loaded)
    (line,) = better_values(Trial(loaded, samples, most=256, size=64, budget_s=0), {"heads"})
    assert line.startswith("not all other values of heads were tried")


def test_a_model_with_one_output(tmp_path: Path) -> None:
    """Zeros against ones; the right heads and residual separate them."""
    content = torch.load(DIGITS, weights_only=True)
    state = content["state_dict"]
    state["head.weight"] = state["head.weight"][1:2] - state["head.weight"][0:1]
    state["head.bias"] = state["head.bias"][1:2] - state["head.bias"][0:1]
    torch.save({"state_dict": state, "best_acc1": 99.0}, tmp_path / "one.pt")
    for number in (0, 1):
        shutil.copytree(TEST_IMAGES / str(number), tmp_path / "photos" / str(number))
    options = Options(spec={"heads": "2", "mean": "0", "std": "1"}, data=tmp_path / "photos")
    loaded = reading.load(tmp_path / "one.pt", options.reading)
    samples, _ = images.open_all(options.images, loaded)
    logits = images.pytorch_answers(loaded, samples, 64).logits
    lines = doubts(loaded, samples, logits, options.reading, size=64, pytorch_s=1000)
    assert "records best_acc1 = 99 %" in lines[0]
    assert "--spec mean=0.5 --spec std=0.5" in lines[1]
    given = Options(data=tmp_path / "photos")
    with pytest.raises(SpecError, match="top-1 on photos with the best values: heads="):
        open_fields.load(tmp_path / "one.pt", given.reading, given.images, 64, lambda _: None)


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
