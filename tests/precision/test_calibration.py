"""Ranges are cached: the same request reads no image, any other request computes again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from paraexport.precision.calibration import calibration
from paraexport.precision.calibration.calibration import Calibration, default_folder
from paraexport.precision.calibration.calibrators import CALIBRATORS, Scale, scale_for
from tests.precision.test_histograms import IMAGES, MODEL, NAMES, expected


def calibrated(folder: Path, calibrator: str = "minmax", digest: str = "the images") -> Calibration:
    return Calibration(lambda: [IMAGES[:5], IMAGES[5:]], digest, calibrator, folder, "12 images")


def without_images(folder: Path, calibrator: str = "minmax") -> Calibration:
    return dataclasses.replace(calibrated(folder, calibrator), images=lambda: pytest.fail("the images were read again"))


def by_hand(*, signed: bool) -> dict[str, Scale]:
    return {
        name: scale_for((float(values.min()), float(values.max())), signed=signed)
        for name, values in expected(IMAGES).items()
    }


def another_model() -> ir.Model:
    """Other weights, or another operator, and the same names."""
    other = MODEL.clone()
    node = next(iter(other.graph))
    node.op_type = "Abs"
    return other


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_the_second_time_no_image_is_read(calibrator: str, signed: bool, tmp_path: Path) -> None:
    first = calibrated(tmp_path, calibrator).find_scales(MODEL, NAMES, signed=signed)
    assert without_images(tmp_path, calibrator).find_scales(MODEL, NAMES, signed=signed) == first
    if calibrator == "minmax":
        assert first == by_hand(signed=signed)
    assert [file.suffix for file in tmp_path.iterdir()] == [".json"], "and nothing is left beside it"


def test_whatever_decides_the_answer_is_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = calibrated(tmp_path)
    weights = MODEL.clone()
    weights.graph.initializers.add(ir.Value(name="w", const_value=ir.tensor(np.ones(3, np.float32), name="w")))
    keys = [
        subject.cache_key(MODEL, NAMES, signed=False),
        subject.cache_key(MODEL, NAMES, signed=True),
        subject.cache_key(MODEL, NAMES[:2], signed=False),
        subject.cache_key(another_model(), NAMES, signed=False),
        subject.cache_key(weights, NAMES, signed=False),
        dataclasses.replace(subject, digest="other images").cache_key(MODEL, NAMES, signed=False),
        dataclasses.replace(subject, calibrator="mse").cache_key(MODEL, NAMES, signed=False),
    ]
    monkeypatch.setattr(calibration, "SOURCE_FILES", ("calibrators.py", "__init__.py"))  # another way to look at values
    keys.append(subject.cache_key(MODEL, NAMES, signed=False))
    assert len({*keys}) == len(keys)


def test_where_the_images_lie_and_what_they_are_called_is_not_in_the_key(tmp_path: Path) -> None:
    moved = dataclasses.replace(calibrated(tmp_path), folder=tmp_path / "elsewhere", origin="the same images elsewhere")
    assert moved.cache_key(MODEL, NAMES, signed=False) == calibrated(tmp_path).cache_key(
        MODEL.clone(), NAMES, signed=False
    )


DAMAGED = {
    "empty": b"",
    "cut short": b'{"y": [-1.0, 2.0], "u"',
    "no text": b"\xff\xfe\x00",
    "no object": b"[1, 2]",
    "a number": b'{"y": 1.0, "u": 2.0, "z": 3.0}',
    "three ends": b'{"y": [1, 2, 3], "u": [1, 2, 3], "z": [1, 2, 3]}',
    "not finite": b'{"y": [NaN, 2.0], "u": [0.0, Infinity], "z": [0.0, 1.0]}',
    "turned round": b'{"y": [5.0, -5.0], "u": [0.0, 1.0], "z": [0.0, 1.0]}',
    "values of another model": b'{"a": [-1.0, 2.0], "b": [0.0, 2.0], "c": [0.0, 4.0]}',
    "a value too few": b'{"y": [-1.0, 2.0], "u": [0.0, 2.0]}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_file_that_is_damaged_or_of_another_model_is_not_believed(content: bytes, tmp_path: Path) -> None:
    calibrated(tmp_path).find_scales(MODEL, NAMES, signed=False)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(content)
    assert calibrated(tmp_path).find_scales(MODEL, NAMES, signed=False) == by_hand(signed=False)
    assert file.read_bytes() == whole, "and it is mended"


def test_a_folder_of_another_model_does_not_answer_for_this_one(tmp_path: Path) -> None:
    other = calibrated(tmp_path).find_scales(another_model(), NAMES, signed=False)
    assert calibrated(tmp_path).find_scales(MODEL, NAMES, signed=False) == by_hand(signed=False) != other
    assert len([*tmp_path.iterdir()]) == 2


@pytest.mark.parametrize("place", ["a file", "below a file", "a folder in the way"])
def test_where_nothing_can_be_kept_the_answer_is_the_same(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "cache"}.get(place, tmp_path / "cache")
    subject = calibrated(folder)
    if place == "a folder in the way":
        (folder / f"{subject.cache_key(MODEL, NAMES, signed=False)}.json").mkdir(parents=True)
    assert subject.find_scales(MODEL, NAMES, signed=False) == by_hand(signed=False)
    assert (tmp_path / "file").read_text() == ""
    if place == "a folder in the way":
        assert len([*folder.iterdir()]) == 1, "nothing half written is left"


def test_what_is_kept_is_the_range_of_each_value(tmp_path: Path) -> None:
    calibrated(tmp_path).find_scales(MODEL, NAMES, signed=False)
    (file,) = tmp_path.iterdir()
    ends = {name: [float(values.min()), float(values.max())] for name, values in expected(IMAGES).items()}
    assert json.loads(file.read_text()) == ends


def test_the_folder_is_where_caches_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/paraexport/calibration")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path.home() / ".cache/paraexport/calibration"


def test_values_that_never_vary_are_named(tmp_path: Path) -> None:
    """With every calibrator, even one that chooses a wider range for a single number."""
    subject = dataclasses.replace(calibrated(tmp_path, "mse"), images=lambda: [np.zeros_like(IMAGES)], digest="zeros")
    assert subject.find_constant(MODEL, NAMES, signed=False) == tuple(NAMES)
    assert calibrated(tmp_path, "mse").find_constant(MODEL, NAMES, signed=False) == ()
