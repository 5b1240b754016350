"""What a build says of images that prove little, beyond what the images alone show."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from paraexport.errors import DataError
from paraexport.findings.graphs import Lowering
from paraexport.images.dataset import Samples, open_samples
from paraexport.images.variety import measure_variety
from paraexport.model.spec import LOGITS, Preprocessing
from paraexport.pipeline.image_evidence import warnings, weigh
from paraexport.pipeline.options import Options
from tests.bundle.test_bundle import manifest

IMAGES = Preprocessing(image_size=(8, 12), channels=1, resize=(8, 12))
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 8, 12), np.uint8)
LABELS = np.resize(np.arange(5), 40)
SPREAD = np.eye(5, dtype=np.float32)[LABELS]
LOWERING = Lowering("", "", False, (), "", (), None, (), {}, 0, constant=("a", "b", "c", "d", "e", "f"))


def opened(path: Path, pixels: np.ndarray, labels: np.ndarray | None = None) -> Samples:
    arrays = {"images": pixels} if labels is None else {"images": pixels, "labels": labels}
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return open_samples(path, IMAGES, "abcde", need_labels=labels is not None)


def said(samples: Samples, calibration: Samples, options: Options, outputs: np.ndarray = SPREAD) -> list[str]:
    evidence = weigh(samples, measure_variety(samples.batches(8)), calibration, options.images, (0.5,))
    return [*warnings(evidence, outputs, manifest(scores=LOGITS))]


def test_nothing_is_said_of_good_images(tmp_path: Path) -> None:
    samples = opened(tmp_path / "data.npz", PIXELS, LABELS)
    calibration = opened(tmp_path / "calib.npz", PIXELS[::-1] // 2)
    options = Options(precision="int8", calib=tmp_path / "calib.npz", data=tmp_path / "data.npz")
    assert said(samples, calibration, options) == []


def test_the_same_images_as_calib_and_as_data_are_no_others(tmp_path: Path) -> None:
    samples, calibration = opened(tmp_path / "data.npz", PIXELS, LABELS), opened(tmp_path / "calib.npz", PIXELS[::-1])
    options = Options(precision="int8", calib=tmp_path / "calib.npz", data=tmp_path / "data.npz")
    (line,) = said(samples, calibration, options)
    assert "the checks ran only on images that int8 was calibrated on" in line


def test_poor_calibration_images_beside_good_data(tmp_path: Path) -> None:
    samples = opened(tmp_path / "data.npz", PIXELS, LABELS)
    poor = opened(tmp_path / "calib.npz", np.resize(PIXELS[:3], PIXELS.shape))
    options = Options(precision="int8", calib=tmp_path / "calib.npz", data=tmp_path / "data.npz")
    (line,) = said(samples, poor, options)
    assert line == "calibration images: only 3 of 40 images are different; ranges may be wrong"
    for distinct, words in ((1, "all 40 images are equal"), (2, "only 2 of 40 images are different")):
        repeated = opened(tmp_path / "calib.npz", np.resize(PIXELS[:distinct], PIXELS.shape))
        with pytest.raises(DataError, match=rf"calib.npz: int8 cannot be calibrated .*{words}"):
            said(samples, repeated, options)


def test_labels_and_answers_that_are_all_the_same(tmp_path: Path) -> None:
    samples = opened(tmp_path / "data.npz", PIXELS, np.full(40, 2))
    lines = said(samples, samples, Options(data=tmp_path / "data.npz"), np.eye(5, dtype=np.float32)[np.full(40, 2)])
    assert lines == [
        "PyTorch gives the same answer for all 40 images: c; even a wrong model may agree with it",
        "all 40 labelled images are of class c: the accuracy means little",
    ]


def test_values_without_a_range_are_named(tmp_path: Path) -> None:
    samples = opened(tmp_path / "data.npz", PIXELS, LABELS)
    evidence = weigh(
        samples, measure_variety(samples.batches(8)), samples, Options(data=tmp_path / "data.npz").images, (0.5,)
    )
    (line,) = warnings(evidence, SPREAD, dataclasses.replace(manifest(), lowering=LOWERING))
    assert line.startswith("a, b, c, d and 2 more had the same value for all calibration images, so int8 has no range")
