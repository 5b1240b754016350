"""Reads images and labels from `.npy` and `.npz`, and refuses arrays that do not fit the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paraexport.errors import DataError
from paraexport.images.numpy_files import StoredArray, stored_arrays
from paraexport.images.preprocess import prepare_batch
from paraexport.model.spec import Preprocessing

_CHUNK_BYTES = 1 << 26
_BEYOND = 4
"""How far values may go beyond the range of preprocessed images, as a multiple of this range."""


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Images of one array, preprocessed when they are read. The array may be a file mapped into memory."""

    images: NDArray[Any]
    """uint8 [N, H, W, C], or float32 [N, C, H, W] if `preprocessing` is None."""
    preprocessing: Preprocessing | None

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: NDArray[np.intp]) -> NDArray[np.float32]:
        images = np.asarray(self.images[indices])
        return images.astype(np.float32) if self.preprocessing is None else prepare_batch(images, self.preprocessing)

    def pixels(self, index: int) -> NDArray[np.uint8] | None:
        return None if self.preprocessing is None else np.asarray(self.images[index])

    def name(self, index: int) -> str:
        return f"image {index}"

    def identify(self, sha256: Any) -> None:
        sha256.update(f"array {self.images.dtype.str} {self.images.shape} {self.preprocessing}".encode())
        for chunk in _chunks(self.images):
            sha256.update(np.ascontiguousarray(chunk).data)


def open_array(
    path: Path, preprocessing: Preprocessing, classes: int, *, need_labels: bool
) -> tuple[ArraySource, NDArray[np.int64] | None]:
    """Open `.npy` or `.npz` as `open_samples` describes; returns (images, labels [N] or None if not needed).

    Raises:
        DataError: the file lacks an array, or an array does not fit the model.
    """
    stored = stored_arrays(path)
    _require_fit(stored["images"], preprocessing, path)
    given = stored.get("labels") if need_labels else None
    labels = _checked_labels(given, stored["images"].shape[0], classes, path) if need_labels else None
    images = stored["images"].read()
    if images.dtype != np.uint8:
        _refuse_impossible(images, preprocessing, path)
        return ArraySource(images, None), labels
    if images.ndim == 3:
        images = images[..., None]
    prepare_batch(images[:1], preprocessing, path)  # raises early; all images have the size of the first
    return ArraySource(images, preprocessing), labels


def _require_fit(images: StoredArray, preprocessing: Preprocessing, path: Path) -> None:
    """Raise a `DataError` unless they are preprocessed images or pixels for this model."""
    height, width = preprocessing.image_size
    channels = preprocessing.channels
    dtype, shape = images.dtype, images.shape
    prepared = (dtype.kind, dtype.itemsize) == ("f", 4) and shape[1:] == (channels, height, width)
    is_grey = channels == 1 and len(shape) == 3
    raw = dtype == np.uint8 and (is_grey or (len(shape) == 4 and shape[3] == channels))
    if not (prepared or raw) or 0 in shape:
        raise DataError(
            "the images do not fit the model",
            where=path,
            expected=f"at least one of float32 [N, {channels}, {height}, {width}] or uint8 [N, H, W, {channels}]",
            got=f"{dtype} {list(shape)}",
            remedy="convert the array, or correct the image size or channels",
        )


def _refuse_impossible(images: NDArray[Any], preprocessing: Preprocessing, path: Path) -> None:
    """Raise a `DataError` for values that are not finite, or that show that the images were not preprocessed."""
    mean, std = (np.array(values, np.float64) for values in (preprocessing.mean, preprocessing.std))
    lowest, highest = (0 - mean) / std, (1 - mean) / std
    margin = _BEYOND * (highest - lowest)
    start = 0
    for chunk in _chunks(images):
        finite = np.isfinite(chunk).reshape(len(chunk), -1).all(axis=1)
        if not finite.all():
            raise DataError(
                f"image {start + int(finite.argmin())} has values that are not finite",
                where=path,
                expected="finite numbers",
                got="NaN or infinity",
                remedy="remove this image, or preprocess it again",
            )
        low, high = chunk.min((2, 3)), chunk.max((2, 3))
        wrong = ((low < lowest - margin) | (high > highest + margin)).any(1)
        if wrong.any():
            number = int(wrong.argmax())
            raise DataError(
                f"image {start + number} is not preprocessed for this model",
                where=path,
                expected=f"about {lowest.min():.4g} to {highest.max():.4g}",
                got=f"{low[number].min():.4g} to {high[number].max():.4g}",
                remedy="scale to 0..1, subtract the mean and divide by the std; or give uint8 [N, H, W, C]",
            )
        start += len(chunk)


def _checked_labels(given: StoredArray | None, count: int, classes: int, path: Path) -> NDArray[np.int64]:
    expected = f"{count} integers in 0..{classes - 1}, one for each image"
    got = "none"
    if given is not None:
        got = f"{given.dtype} {list(given.shape)}"
        if given.dtype.kind in "iu" and given.shape == (count,):
            labels = given.read()
            if labels.min() >= 0 and labels.max() < classes:
                return labels.astype(np.int64)
            got = f"values in {labels.min()}..{labels.max()}"
    remedy = "save them as `labels` with numpy.savez(path, images=..., labels=...)"
    raise DataError(
        "the labels do not fit the images or the model", where=path, expected=expected, got=got, remedy=remedy
    )


def _chunks(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """A few images at a time, because a mapped file may be larger than the memory."""
    step = max(1, _CHUNK_BYTES // images[0].nbytes)
    for start in range(0, len(images), step):
        yield images[start : start + step]
