"""Builds of modules whose outputs are no plain logits, and of images that prove little, from end to end."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import paraexport
from paraexport.bundle import read_bundle
from paraexport.pipeline.validate import validate
from tests.cli.conftest import Done, Run

MODULES = """
import torch
from torch import nn

class Shades(nn.Module):
    '''Logits that are the largest for class k where an image has the shade 20 k; twelve classes, in this order.'''

    def __init__(self, order):
        super().__init__()
        centres = 20 * torch.tensor([float(name) for name in order]) / 255
        self.head = nn.Linear(1, len(order))
        self.head.weight.data, self.head.bias.data = 400 * centres[:, None], -200 * centres**2

    def forward(self, images):
        return self.head(images.mean((1, 2, 3))[:, None])

def as_text(path): return Shades(sorted(map(str, range(12))))
def softmax(path): return nn.Sequential(Shades(range(12)), nn.Softmax(1))
def bright(path): return nn.Sequential(nn.AvgPool2d((4, 6)), nn.Flatten(), Line())

class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(8.0))

    def forward(self, mean):
        return self.slope * mean - 3
"""
OPTIONS = ("--spec", "image_size=4x6", "--spec", "channels=1", "--spec", "mean=0", "--spec", "std=1")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Modules, a checkpoint that they ignore, and twelve class folders of three images each, shade 20 · class."""
    folder = tmp_path_factory.mktemp("outputs")
    (folder / "own.py").write_text(MODULES)
    for number in range(12):
        for index in range(3):
            pixels = np.full((4, 6), 20 * number, np.uint8)
            pixels[index] += 1
            (folder / "data" / str(number)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / "data" / str(number) / f"{index}.png")
    return folder


def build(run: Run, work: Path, module: str, *options: object) -> Done:
    """The module `own.py:MODULE`, in MODULE.bundle."""
    (work / f"{module}.pt").touch()
    arguments = ("build", work / f"{module}.pt", "-o", work / f"{module}.bundle", "--module", f"{work}/own.py:{module}")
    return run(*arguments, *OPTIONS, *options, "--json", "--force")


def test_folders_in_string_order_are_reported_by_a_build(run: Run, work: Path) -> None:
    done = build(run, work, "as_text", "--data", work / "data")
    assert done.code == 0, done.err
    assert "agree with the class folders for 6 of 36 images, and for 36 with the folders in string" in done.err
    given = (work / "as_text.bundle", work / "as_text.pt", "--data", work / "data")
    refused = run("validate", *given)
    assert (refused.code, "give --module PATH/TO/own.py:as_text" in refused.err) == (2, True)
    again = run("validate", *given, "--module", f"{work / 'own.py'}:as_text")
    assert again.code == 0
    assert "warning: PyTorch's answers agree with the class folders for 6 of 36 images, and for 36 with" in again.err
    names = work / "names.txt"
    names.write_text("\n".join(sorted(map(str, range(12)))))
    done = build(run, work, "as_text", "--data", work / "data", "--spec", f"labels={names}")
    assert done.json["accuracy"] == {"images": 36, "pytorch_correct": 36, "engine_correct": 36}
    assert done.json["warnings"] == []
    found = run("predict", work / "as_text.bundle", work / "data" / "10" / "0.png", "--json").json["predictions"][0]
    assert (found["label"], found["index"]) == ("10", 2)


def test_probabilities_of_a_module_are_shown_as_they_are(run: Run, work: Path) -> None:
    done = build(run, work, "softmax", "--data", work / "data")
    assert done.code == 0, done.err
    assert (done.json["scores"]["activation"], done.json["scores"]["kind"]) == ("none", "exclusive")
    assert "ends in Softmax" in done.json["scores"]["reason"]
    image = work / "data" / "7" / "0.png"
    pixels = torch.from_numpy(np.asarray(Image.open(image), np.float32) / 255)
    centres = 20 * torch.arange(12) / 255
    expected = (400 * centres * pixels.mean() - 200 * centres**2).softmax(0)
    found = run("predict", work / "softmax.bundle", image, "--json").json["predictions"][0]
    assert found["probability"] == found["score"] == pytest.approx(float(expected[7]), abs=1e-6)
    page = (work / "softmax.bundle/report.html").read_text("utf-8")
    assert f"{100 * float(expected[7]):.1f} %" in page
    assert "the outputs themselves: probabilities that sum to 1" in run("inspect", work / "softmax.bundle").out


def test_one_output_is_a_probability_by_sigmoid(run: Run, work: Path, tmp_path: Path) -> None:
    for number in (0, 1):
        (tmp_path / "two" / str(number)).mkdir(parents=True)
        for index in range(4):
            shade = 40 + 120 * number + 10 * index
            Image.new("L", (6, 4), shade).save(tmp_path / "two" / str(number) / f"{index}.png")
    done = build(run, work, "bright", "--data", tmp_path / "two")
    assert done.code == 0, done.err
    assert "assumed scores = sigmoid: the model has one output" in done.err
    assert done.json["accuracy"] == {"images": 8, "pytorch_correct": 8, "engine_correct": 8}
    checks = {check["name"]: check for check in done.json["checks"]}
    assert checks["disagreement"]["unit"] == "% of yes-or-no answers that differ"
    shown = run("predict", work / "bright.bundle", tmp_path / "two" / "1" / "0.png")
    assert f": 1 {100 / (1 + math.exp(3 - 8 * 160 / 255)):.1f} %\n" in shown.out
    module = f"{work / 'own.py'}:bright"
    assert validate(work / "bright.bundle", work / "bright.pt", data=tmp_path / "two", module=module)[-1].passed
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps(["dark", "bright"]))
    (tmp_path / "two" / "0").rename(tmp_path / "two" / "dark")
    (tmp_path / "two" / "1").rename(tmp_path / "two" / "bright")
    done = build(run, work, "bright", "--data", tmp_path / "two", "--spec", f"labels={labels}", "--spec=scores=sigmoid")
    assert done.json["accuracy"]["pytorch_correct"] == 8
    assert not [line for line in done.err.splitlines() if "assumed scores" in line]
    shown = run("predict", work / "bright.bundle", tmp_path / "two" / "dark" / "0.png", "--json").json["predictions"][0]
    assert shown["label"] == "dark"
    assert shown["probability"] == pytest.approx(1 / (1 + math.exp(8 * 40 / 255 - 3)), abs=1e-6)
    assert read_bundle(work / "bright.bundle").manifest.labels == ("bright",)
    assert paraexport.load(work / "bright.bundle")(np.zeros((1, 1, 4, 6), np.float32))[0, 0] == pytest.approx(-3)


def test_a_regression_is_shown_as_values_and_takes_no_labels(run: Run, work: Path) -> None:
    done = build(run, work, "bright", "--spec", "scores=regression", "--calib", work / "data")
    assert done.code == 0, done.err
    checks = {check["name"]: check for check in done.json["checks"]}
    assert (checks["parity"]["passed"], checks["disagreement"]["passed"]) == (True, None)
    image = work / "data" / "0" / "0.png"
    found = run("predict", work / "bright.bundle", image, "--json").json["predictions"][0]
    assert found["score"] == pytest.approx(8 * 0.25 / 255 - 3, abs=1e-5)
    assert found["probability"] is None
    assert run("predict", work / "bright.bundle", image).out == f"{image}: 1 {found['score']:.4g}\n"
    done = build(run, work, "bright", "--spec", "scores=regression", "--data", work / "data")
    assert done.code == 2
    assert "the outputs of the model are values, not classes" in done.err
    assert "give the images as --calib" in done.err


def test_equal_images_are_reported_in_every_precision(run: Run, work: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "equal.npy", np.full((20, 4, 6), 77, np.uint8))
    done = build(run, work, "bright", "--calib", tmp_path / "equal.npy")
    assert done.code == 0, done.err
    assert "warning: all 20 images are equal: the checks prove little" in done.err
    assert "warning: each of the 20 images has one colour: the checks prove little" in done.err
    assert "PyTorch gives the same answer for all 20 images" in done.err
