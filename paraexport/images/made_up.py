"""Makes images up: noise, slopes and blobs, for checks without real images and as proof of preprocessing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from paraexport.images.arrays import ArraySource
from paraexport.images.dataset import Samples
from paraexport.images.wording import counted
from paraexport.model.spec import Preprocessing

NOISE, SLOPE, BLOB = range(3)


def made_up_samples(preprocessing: Preprocessing, count: int = 32, seed: int = 0) -> Samples:
    """Noise, slopes and blobs over the whole range 0..255, scaled and normalised like real images.

    The numbers are the same on every machine: NumPy guarantees the raw stream of a bit generator, and the rest is
    exact.
    """
    if count < 1:
        raise ValueError(f"count is {count}, expected at least 1")
    (height, width), channels = preprocessing.image_size, preprocessing.channels
    stream = np.random.PCG64(seed)
    pixels = np.stack([picture(stream, (height, width, channels), number % 3) for number in range(count)])
    source = ArraySource(pixels, replace(preprocessing, resize=preprocessing.image_size))
    return Samples(f"{counted(count, 'made-up image')} (seed {seed})", None, True, (), source)


def odd_sizes(preprocessing: Preprocessing, seed: int = 1) -> Iterator[NDArray[np.uint8]]:
    """Pixels [H, W, C] of sizes on which resizing and cropping differ: as the model's, larger, wider, and taller."""
    (height, width), channels = preprocessing.image_size, preprocessing.channels
    stream = np.random.PCG64(seed)
    sizes = [(height, width), (height + height // 2 + 1, width + 3), (height + 3, width + width // 2 + 1)]
    sizes += [(height + height // 3, width + width // 3), (max(height // 2, 1), max(width // 2, 1))]
    for number, size in enumerate(sizes):
        yield picture(stream, (*size, channels), number % 3)


def picture(stream: np.random.PCG64, shape: tuple[int, int, int], kind: int) -> NDArray[np.uint8]:
    """[H, W, C], all levels from 0 to 255."""
    height, width, channels = shape
    # Raw 64-bit numbers: the top 8 bits make noise 0..255, the top 53 bits make uniform reals in [0, 1).
    raw = stream.random_raw(height * width * channels + 3 * channels)
    if kind == NOISE:
        return (raw[3 * channels :] >> 56).reshape(shape).astype(np.uint8)
    first, second, third = (raw[: 3 * channels] >> 11).reshape(3, -1) * 2.0**-53
    down, across = np.mgrid[:height, :width] + 0.5
    if kind == SLOPE:
        slope = (2 * first - 1) * down[..., None] / height + (2 * second - 1) * across[..., None] / width
        return full_range(slope)
    distance = (down[..., None] / height - first) ** 2 + (across[..., None] / width - second) ** 2
    return full_range(np.maximum(0, 1 - distance / (0.05 + third / 5)) ** 2)


def full_range(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    lowest = values.min()
    return np.rint((values - lowest) / ((values.max() - lowest) or 1.0) * 255).astype(np.uint8)
