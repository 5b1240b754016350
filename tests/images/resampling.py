"""Pillow's resize of 8-bit images, written anew in float64 and integers: the reference for `images/preprocess.py`.

Source of the algorithm: Pillow, `src/libImaging/Resample.c` (filters) and `Geometry.c` (nearest). Each axis is one
pass: weights in float64, scaled to 22 bits and rounded away from zero, products summed in integers, clipped to 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
BITS = 22


def triangle(x: float) -> float:
    return max(1 - abs(x), 0.0)


def cubic(x: float) -> float:
    x, a = abs(x), -0.5
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


def sinc(x: float) -> float:
    return 1.0 if x == 0 else math.sin(x * math.pi) / (x * math.pi)


def lanczos(x: float) -> float:
    return sinc(x) * sinc(x / 3) if -3 <= x < 3 else 0.0


FILTERS: dict[str, tuple[Callable[[float], float], float]] = {
    "bilinear": (triangle, 1.0),
    "bicubic": (cubic, 2.0),
    "lanczos": (lanczos, 3.0),
}


def resized(pixels: Pixels, height: int, width: int, interpolation: str) -> Pixels:
    """[H, W, C] -> [height, width, C], the horizontal pass first."""
    across = one_axis(pixels.transpose(1, 0, 2), width, interpolation).transpose(1, 0, 2)
    return one_axis(across, height, interpolation)


def one_axis(pixels: Pixels, size: int, interpolation: str) -> Pixels:
    """[n, ...] -> [size, ...]."""
    if len(pixels) == size:
        return pixels
    if interpolation == "nearest":
        return pixels[nearest(len(pixels), size)]
    kernel, support = FILTERS[interpolation]
    rows = []
    scale = len(pixels) / size
    stretch = max(scale, 1.0)
    for index in range(size):
        centre = (index + 0.5) * scale
        first = max(int(centre - support * stretch + 0.5), 0)
        last = min(int(centre + support * stretch + 0.5), len(pixels))
        weights = [kernel((place - centre + 0.5) * (1 / stretch)) for place in range(first, last)]
        total = sum(weights)
        whole = [round_away((weight / total if total else weight) * (1 << BITS)) for weight in weights]
        products = np.tensordot(np.array(whole, np.int64), pixels[first:last].astype(np.int64), 1)
        rows.append(np.clip((products + (1 << (BITS - 1))) >> BITS, 0, 255))
    return np.stack(rows).astype(np.uint8)


def nearest(length: int, size: int) -> list[int]:
    step = length / size
    place = step * 0.5
    places = []
    for _ in range(size):
        places.append(min(int(place), length - 1))
        place += step
    return places


def round_away(value: float) -> int:
    return int(value + 0.5) if value >= 0 else int(value - 0.5)
