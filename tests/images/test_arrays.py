"""Usable arrays and their images, and the refusal of all others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from paraexport.errors import DataError
from paraexport.images.arrays import ArraySource, open_array
from paraexport.model.spec import Preprocessing

GREY = Preprocessing(image_size=(4, 6), channels=1, resize=(4, 6), mean=(0.0,), std=(1.0,))
RGB = Preprocessing(image_size=(4, 6), channels=3, resize=(4, 6))
CLASSES = 3


def numbered(count: int) -> NDArray[np.uint8]:
    """Images of one shade each, by which they are known again."""
    return np.repeat(np.arange(count, dtype=np.uint8), 24).reshape(count, 4, 6, 1)


def images_of(path: Path, preprocessing: Preprocessing = GREY) -> ArraySource:
    source, labels = open_array(path, preprocessing, CLASSES, need_labels=False)
    assert labels is None
    return source


def shades(source: ArraySource) -> list[int]:
    images = source.read(np.arange(len(source)))
    assert images.dtype == np.float32
    assert images.shape[1:] == (1, 4, 6)
    return [round(float(image.mean()) * 255) for image in images]


def refused(path: Path, preprocessing: Preprocessing = GREY, *, need_labels: bool = False) -> str:
    """The one line of the refusal, which names the file."""
    with pytest.raises(DataError) as caught:
        open_array(path, preprocessing, CLASSES, need_labels=need_labels)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert caught.value.remedy
    return message


def test_npy_of_pixels_is_mapped_and_preprocessed(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", numbered(5))
    source = images_of(tmp_path / "a.npy")
    assert isinstance(source.images, np.memmap)
    assert shades(source) == [0, 1, 2, 3, 4]
    np.save(tmp_path / "b.npy", numbered(5)[..., 0])
    assert shades(images_of(tmp_path / "b.npy")) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4"])
def test_float32_is_preprocessed_already(tmp_path: Path, dtype: str, order: str) -> None:
    images = np.random.default_rng(0).normal(size=(5, 3, 4, 6)).astype(dtype)
    np.save(tmp_path / "a.npy", np.asfortranarray(images) if order == "F" else images)
    got = images_of(tmp_path / "a.npy", RGB).read(np.array([3, 0]))
    assert got.dtype == np.dtype(np.float32)
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, images[[3, 0]])


def test_pixels_are_resized_and_normalised(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), np.uint8)
    np.save(tmp_path / "a.npy", images)
    got = images_of(tmp_path / "a.npy", RGB).read(np.arange(2))
    for image, tensor in zip(images, got, strict=True):
        resized = np.asarray(Image.fromarray(image).resize((6, 4), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(tensor, (resized.transpose(2, 0, 1) / 255.0 - 0.5) / 0.5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint64])
def test_npz_with_labels(tmp_path: Path, dtype: type[np.integer]) -> None:
    np.savez(tmp_path / "a.npz", images=numbered(4), labels=np.array([2, 0, 1, 1], dtype))
    source, labels = open_array(tmp_path / "a.npz", GREY, CLASSES, need_labels=True)
    assert labels is not None
    assert labels.dtype == np.int64
    assert labels.tolist() == [2, 0, 1, 1]
    assert shades(source) == shades(images_of(tmp_path / "a.npz")) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        ([0, 1, 3, 0], "values in 0..3"),
        ([0, -1, 2, 0], "values in -1..2"),
        ([0, 1, 2], r"int64 [3]"),
        ([0.0, 1.0, 2.0, 0.0], "float64 [4]"),
        ([True, False, True, True], "bool [4]"),
        (np.eye(4, 3, dtype=np.int64), "int64 [4, 3]"),
        (None, "got none"),
    ],
)
def test_labels_that_do_not_fit(tmp_path: Path, labels: object, got: str) -> None:
    arrays = {"images": numbered(4)} | ({} if labels is None else {"labels": np.array(labels)})
    np.savez(tmp_path / "a.npz", **arrays)
    message = refused(tmp_path / "a.npz", need_labels=True)
    assert "expected 4 integers in 0..2, one for each image" in message
    assert got in message
    assert "numpy.savez" in message


def test_npy_has_no_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", numbered(4))
    assert "got none" in refused(tmp_path / "a.npy", need_labels=True)


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (np.zeros((2, 3, 4, 6)), "float64 [2, 3, 4, 6]"),
        (np.zeros((2, 3, 4, 6), np.float16), "float16"),
        (np.zeros((2, 3, 5, 6), np.float32), "float32 [2, 3, 5, 6]"),
        (np.zeros((2, 4, 6, 3), np.float32), "float32 [2, 4, 6, 3]"),
        (np.zeros((3, 4, 6), np.float32), "float32 [3, 4, 6]"),
        (np.zeros((2, 3, 4, 6), np.uint8), "uint8 [2, 3, 4, 6]"),
        (np.zeros((2, 4, 6), np.uint8), "uint8 [2, 4, 6]"),
        (np.zeros((2, 0, 6, 3), np.uint8), "uint8 [2, 0, 6, 3]"),
        (np.zeros((2, 4, 6, 3), np.int64), "int64"),
        (np.zeros((0, 3, 4, 6), np.float32), "float32 [0, 3, 4, 6]"),
        (np.zeros((0, 4, 6, 3), np.uint8), "uint8 [0, 4, 6, 3]"),
        (np.float32(1.0), "float32 []"),
        (np.array(["a"]), "<U1 [1]"),
    ],
)
def test_images_that_do_not_fit(tmp_path: Path, images: NDArray[np.generic], got: str) -> None:
    np.save(tmp_path / "a.npy", images)
    message = refused(tmp_path / "a.npy", RGB)
    assert "expected at least one of float32 [N, 3, 4, 6] or uint8 [N, H, W, 3]" in message
    assert f"got {got}" in message
    assert "convert the array" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    images = np.zeros((5, 3, 4, 6), np.float32)
    images[3, 1, 2, 2] = value
    np.save(tmp_path / "a.npy", images)
    message = refused(tmp_path / "a.npy", RGB)
    assert "image 3 has values that are not finite" in message
    assert "preprocess it again" in message


def test_non_finite_values_far_into_a_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paraexport.images.arrays._CHUNK_BYTES", 1000)
    images = np.zeros((50, 3, 4, 6), np.float32)
    images[43] = np.nan
    np.save(tmp_path / "a.npy", images)
    assert "image 43 " in refused(tmp_path / "a.npy", RGB)


def test_pixels_smaller_than_the_crop(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 4, 1), np.uint8))
    small = Preprocessing(image_size=(4, 6), channels=1, resize=4)
    assert "smaller than the crop" in refused(tmp_path / "a.npy", small)


@pytest.mark.parametrize("content", [b"", b"no array", b"PK\x03\x04 no archive", b"\x93NUMPY\x01\x00\xff"])
@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_broken_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    message = refused(tmp_path / name)
    assert "not a NumPy file of plain arrays" in message
    assert "numpy.save or numpy.savez" in message


@pytest.mark.parametrize("save", [np.save, lambda path, array: np.savez(path, images=array)])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_pickles_are_refused(tmp_path: Path, suffix: str, save: Callable[[Path, object], None]) -> None:
    with (tmp_path / f"a.{suffix}").open("wb") as file:
        save(file, np.array([{"a": 1}], object))  # type: ignore[arg-type]
    assert "not a NumPy file of plain arrays" in refused(tmp_path / f"a.{suffix}")


def test_truncated_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", numbered(5))
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data[:-7])
    assert "not a NumPy file" in refused(tmp_path / "a.npy")


@pytest.mark.parametrize("names", [("x", "y"), ("labels",), ("images", "labels", "split"), ()])
def test_wrong_arrays_in_npz(tmp_path: Path, names: tuple[str, ...]) -> None:
    arrays: dict[str, Any] = {name: numbered(1) for name in names}
    np.savez(tmp_path / "a.npz", **arrays)
    message = refused(tmp_path / "a.npz", need_labels=True)
    assert "wrong arrays in the file" in message
    assert f"got {', '.join(names) or 'none'}" in message
    assert "numpy.savez(path, images=..., labels=...)" in message


def test_digest_does_not_depend_on_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", numbered(50))
    source, whole, parts = images_of(tmp_path / "a.npy"), hashlib.sha256(), hashlib.sha256()
    source.identify(whole)
    monkeypatch.setattr("paraexport.images.arrays._CHUNK_BYTES", 100)
    source.identify(parts)
    assert parts.digest() == whole.digest()


NORMALISED = Preprocessing(image_size=(4, 6), channels=3, resize=(4, 6), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.5))


@pytest.mark.parametrize(
    ("value", "channel", "fits"),
    [
        (-2.0, 0, True), (3.0, 0, True), (-2.0 - 19.9, 0, True), (3.0 + 19.9, 0, True),
        (-2.0 - 20.1, 0, False), (3.0 + 20.1, 0, False), (0.8 + 7.9, 2, True), (0.8 + 8.1, 2, False),
        (255.0, 1, False), (1e4, 1, False), (-1e4, 2, False),
    ],
)  # fmt: skip
def test_float32_that_no_preprocessing_gives(tmp_path: Path, value: float, channel: int, fits: bool) -> None:
    """Black is (0 - mean) / std, white (1 - mean) / std; four times as much beyond either is allowed."""
    images = np.zeros((5, 3, 4, 6), np.float32)
    images[3, channel, 2, 1] = value
    np.save(tmp_path / "a.npy", images)
    if fits:
        assert len(images_of(tmp_path / "a.npy", NORMALISED)) == 5
        return
    message = refused(tmp_path / "a.npy", NORMALISED)
    assert "image 3 is not preprocessed for this model" in message
    assert "expected about -2 to 3" in message
    assert f"got {min(value, 0):.4g} to {max(value, 0):.4g}" in message
    assert "divide by the std" in message


def test_pixels_as_float32_are_refused(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 4, 6)).astype(np.float32)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.zeros(4, np.int64))
    assert "image 0 is not preprocessed" in refused(tmp_path / "a.npz", RGB)
    np.save(tmp_path / "b.npy", (pixels / 255 - 0.5) / 0.5)
    assert len(images_of(tmp_path / "b.npy", RGB)) == 4
    bytes_as_they_are = Preprocessing(image_size=(4, 6), channels=3, resize=(4, 6), mean=(0.0,) * 3, std=(1 / 255,) * 3)
    np.save(tmp_path / "c.npy", pixels)
    assert len(images_of(tmp_path / "c.npy", bytes_as_they_are)) == 4
