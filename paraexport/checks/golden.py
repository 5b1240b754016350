"""Reads and writes the golden file: real images, and PyTorch's logits for them. Every runtime replays it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save_file

from paraexport.bundle import REBUILD
from paraexport.checks.comparison import Pair
from paraexport.checks.limits import PREPARATION
from paraexport.errors import BundleError, on_one_line
from paraexport.findings.checks import Check
from paraexport.images.preprocess import prepare_pixels
from paraexport.model.spec import Preprocessing
from paraexport.targets.folder import Folder

if TYPE_CHECKING:
    from torch import nn

FILE = "golden.safetensors"
IMAGES, LOGITS = "images", "logits"
RAW = ("pixels", "prepared", "logits")
FIRST = "first_branches."
"""The beginning of the names of logits with fewer branches."""
PREPARED = "preprocessing"
MOST_NAMES = 4

Array = NDArray[np.float32]


def answers(module: nn.Module) -> Callable[[Array], Array]:
    """`module` as a function of arrays: float32 [N, C, H, W] -> float32 [N, classes]."""
    import torch

    def run(images: Array) -> Array:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(images)).numpy(), np.float32)

    return run


@dataclass(frozen=True, eq=False)
class RawImage:
    """An image before and after preprocessing, with PyTorch's logits. It proves resize, crop and normalisation."""

    pixels: NDArray[np.uint8]
    """[H, W, C]."""
    prepared: Array
    """[C, h, w]."""
    logits: Array
    """[classes]."""


@dataclass(frozen=True, eq=False)
class Golden:
    """The content of a golden file."""

    images: Array
    """All images after preprocessing, [n, C, h, w], with those of `raw`. n is at least 1."""
    logits: Array
    """PyTorch's logits for them, [n, classes]."""
    raw: tuple[RawImage, ...]
    """Empty in bundles of format 1."""
    first: Mapping[int, Array] = field(default_factory=dict)
    """PyTorch's logits for `images` with only the first branches, by their number."""

    def with_branches(self, count: int) -> Golden:
        """The same images, with the logits of the first `count` branches. Raw images are left out."""
        return Golden(self.images, self.first[count], ())


def write(  # noqa: PLR0917
    folder: Path,
    images: Array,
    logits: Array,
    origin: str,
    raw: Sequence[RawImage] = (),
    first: Mapping[int, Array] = MappingProxyType({}),
) -> None:
    """Write images float32 [N, C, H, W], PyTorch's logits float32 [N, classes] and raw images into the bundle.

    Args:
        first: PyTorch's logits with only the first branches, by their number: for the images, then for the raw ones.
    """
    tensors: dict[str, NDArray[np.generic]] = {IMAGES: images, LOGITS: logits}
    for number, image in enumerate(raw):
        tensors |= {f"{name}.{number}": np.ascontiguousarray(getattr(image, name)) for name in RAW}
    tensors |= {f"{FIRST}{count}": np.ascontiguousarray(values) for count, values in first.items()}
    save_file(tensors, folder / FILE, {"origin": origin})


def read(folder: Folder) -> Pair:
    """All golden images [n, C, h, w] and logits [n, classes]; errors as in `read_all`."""
    golden = read_all(folder)
    return golden.images, golden.logits


def read_all(folder: Folder) -> Golden:
    """The golden file of a bundle.

    Raises:
        BundleError: the file is missing, or its content is wrong.
    """
    where, content = folder.path / FILE, folder.read(FILE)
    try:
        tensors = load(content)
        images, logits = tensors.pop(IMAGES), tensors.pop(LOGITS)
    except Exception as error:  # of safetensors, KeyError, and NumPy's errors for types that it lacks
        raise BundleError(
            "the golden file cannot be read",
            where=where,
            expected=f"{IMAGES} and {LOGITS}",
            got=on_one_line(error) or type(error).__name__,
            remedy=REBUILD,
        ) from error
    kinds = (images.dtype.name, images.ndim, logits.dtype.name, logits.ndim)
    if kinds != ("float32", 4, "float32", 2) or not len(images) == len(logits) > 0:
        got = f"{images.dtype} {list(images.shape)} and {logits.dtype} {list(logits.shape)}"
        expected = "float32 images [n, C, H, W] and logits [n, classes], n at least 1"
        raise BundleError("the golden file is malformed", where=where, expected=expected, got=got, remedy=REBUILD)
    first = read_first(tensors)
    raw = read_raw(tensors, images.shape[1:], logits.shape[1:], where)
    if not all(np.isfinite(tensor).all() for tensor in (images, logits, *tensors.values(), *first.values())):
        raise BundleError("the golden file has numbers that are not finite", where=where, remedy=REBUILD)
    if raw:
        images = np.concatenate([images, np.stack([image.prepared for image in raw])])
        logits = np.concatenate([logits, np.stack([image.logits for image in raw])])
    for count, values in first.items():
        if values.dtype != np.float32 or values.shape != logits.shape:
            expected, got = f"float32 {list(logits.shape)}", f"{values.dtype} {list(values.shape)}"
            what = f"the logits of {count} branches in the golden file are malformed"
            raise BundleError(what, where=where, expected=expected, got=got, remedy=REBUILD)
    return Golden(images, logits, raw, first)


def read_first(tensors: dict[str, Array]) -> dict[int, Array]:
    """Take the tensors `first_branches.K` out of `tensors`, by K."""
    names = [name for name in tensors if re.fullmatch(rf"{re.escape(FIRST)}[1-9][0-9]{{0,8}}", name)]
    return {int(name.removeprefix(FIRST)): tensors.pop(name) for name in sorted(names)}


def read_raw(
    tensors: Mapping[str, NDArray[np.generic]], image: tuple[int, ...], classes: tuple[int, ...], where: Path
) -> tuple[RawImage, ...]:
    """The raw images, from the tensors `pixels.K`, `prepared.K` and `logits.K` for K = 0, 1, ….

    Args:
        image: the shape of a prepared image, (C, h, w).
        classes: the shape of its logits.

    Raises:
        BundleError: a tensor is missing, has a wrong shape or type, or has an unknown name.
    """
    count = sum(name.startswith("pixels.") for name in tensors)
    names = {f"{name}.{number}" for name in RAW for number in range(count)}
    if names != tensors.keys():
        got = ", ".join(sorted(map(str, names ^ tensors.keys()))[:MOST_NAMES])
        expected = "pixels.K, prepared.K and logits.K for K = 0, 1, …"
        raise BundleError("the golden file is malformed", where=where, expected=expected, got=got, remedy=REBUILD)
    raw = []
    for number in range(count):
        pixels, prepared, logits = (tensors[f"{name}.{number}"] for name in RAW)
        fits = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.size and pixels.shape[2] == image[0]
        answers_fit = prepared.dtype == np.float32 and logits.dtype == np.float32
        if not fits or not answers_fit or (prepared.shape, logits.shape) != (image, classes):
            got = ", ".join(f"{tensor.dtype} {list(tensor.shape)}" for tensor in (pixels, prepared, logits))
            expected = f"uint8 [H, W, {image[0]}], float32 {list(image)}, float32 {list(classes)}"
            what = f"raw image {number} of the golden file is malformed"
            raise BundleError(what, where=where, expected=expected, got=got, remedy=REBUILD)
        raw.append(RawImage(pixels, prepared, logits))  # type: ignore[arg-type]
    return tuple(raw)


def check_preparation(raw: Sequence[RawImage], preprocessing: Preprocessing) -> Check:
    """Check that preprocessing here gives exactly the values that it gave in the build."""
    limit = PREPARATION
    if not raw:
        return Check(PREPARED, None, limit.value, limit.unit, 0, None, "not run: the bundle has no raw images")
    largest = 0.0
    for image in raw:
        here = prepare_pixels(image.pixels, preprocessing)
        std = np.reshape(preprocessing.std, (-1, 1, 1))
        largest = max(largest, float(np.abs((here.astype(np.float64) - image.prepared) * std).max() * 255))
    return Check(PREPARED, largest, limit.value, limit.unit, len(raw), largest <= limit.value, limit.reason)
