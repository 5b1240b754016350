"""Measures how different the images of a data set are, while they pass by in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paraexport.images.wording import shortened

Images = NDArray[np.float32]
MOST_ABSENT = 10
LEAST_VARIATION, LEAST_SPAN = 2.0, 16.0
"""Limits in levels of 255. Images are poor evidence if a pixel varies less than the first from image to image, or if
all pixels lie within the second. The noise of a camera alone is as large."""


@dataclass(frozen=True, eq=False)
class Variety:
    """How much preprocessed images [N, C, H, W] differ."""

    digests: tuple[bytes, ...]
    """One digest for each image, in order. Equal images have equal digests."""
    plain: int
    """The number of images with one colour only."""
    still: tuple[int, ...]
    """The channels, counted from 0, that have the same value in all images."""
    span: NDArray[np.float64]
    """The largest value minus the smallest one, [C]."""
    variation: NDArray[np.float64]
    """The standard deviation of a pixel from image to image, the root mean square over all pixels, [C]."""

    @property
    def images(self) -> int:
        return len(self.digests)

    @property
    def distinct(self) -> int:
        return len({*self.digests})

    def firsts(self, count: int) -> NDArray[np.intp]:
        """The places of `count` different images, evenly spaced, or of all different ones if there are fewer."""
        places = np.array([*{digest: place for place, digest in [*enumerate(self.digests)][::-1]}.values()])
        places.sort()
        count = min(count, len(places))
        return np.asarray(places[np.arange(count) * len(places) // max(count, 1)], np.intp)

    def part(self, places: Iterable[int]) -> set[bytes]:
        """The digests of the images at these places."""
        return {self.digests[place] for place in places}


class VarietyMeter:
    """Measures the variety of images that pass by in batches."""

    def __init__(self) -> None:
        self.digests: list[bytes] = []
        self.plain = 0
        self.low = self.high = self.sums = self.squares = np.zeros(0)

    def watch(self, batches: Iterable[Images]) -> Iterator[Images]:
        """Yields the batches [N, C, H, W] unchanged, and measures them."""
        for images in batches:
            self.add(images)
            yield images

    def add(self, images: Images) -> None:
        self.digests += [hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() for image in images]
        low, high = images.min((2, 3)), images.max((2, 3))
        self.plain += int((low == high).all(1).sum())
        sums, squares = images.sum(0, np.float64), np.square(images, dtype=np.float64).sum(0)
        if not self.low.size:
            self.low, self.high, self.sums, self.squares = low.min(0), high.max(0), sums, squares
            return
        self.low, self.high = np.minimum(low.min(0), self.low), np.maximum(high.max(0), self.high)
        self.sums, self.squares = self.sums + sums, self.squares + squares

    def variety(self) -> Variety:
        count, span = len(self.digests), (self.high - self.low).astype(np.float64)
        variances = self.squares / count - (self.sums / count) ** 2
        variation = np.sqrt(np.maximum(variances.mean((1, 2)), 0))
        return Variety(tuple(self.digests), self.plain, tuple(map(int, np.flatnonzero(span == 0))), span, variation)


def measure_variety(batches: Iterable[Images]) -> Variety:
    meter = VarietyMeter()
    for images in batches:
        meter.add(images)
    return meter.variety()


def weaknesses(variety: Variety, std: Sequence[float]) -> Iterator[str]:
    """Reasons why the images are poor evidence, one clause each: `all 64 images are equal`.

    `std` is that of the preprocessing, one number or one for each channel. It converts values to pixels from 0 to 255.
    """
    count = variety.images
    pixels = 255 * np.array(std)
    if count > 1 and variety.distinct == 1:
        yield f"all {count} images are equal"
    elif 2 * variety.distinct <= count:
        yield f"only {variety.distinct} of {count} images are different"
    elif count > 1 and (levels := float((variety.variation * pixels).max())) < LEAST_VARIATION:
        yield f"the {count} images are nearly equal: a pixel varies by {levels:.2g} of 255 levels"
    if variety.plain == count:
        yield "the image has one colour" if count == 1 else f"each of the {count} images has one colour"
    elif 4 * variety.plain >= count:
        yield f"{variety.plain} of {count} images have one colour each"
    elif (levels := float((variety.span * pixels).max())) < LEAST_SPAN:
        yield f"the pixels of all images lie within {levels:.3g} of 255 levels"
    elif count > 1 and variety.still:
        channels = ", ".join(map(str, variety.still))
        yield f"channel{'s' if len(variety.still) > 1 else ''} {channels} never varied in {count} images"


def weak_classes(labels: NDArray[np.int64] | None, names: Sequence[str]) -> Iterator[str]:
    """Sentences on why accuracy on images with these labels proves little."""
    if labels is None or len(names) < 2:
        return
    present = np.unique(labels)
    if len(present) == 1:
        name = names[int(present[0])] or f"class {present[0]}"
        yield f"all {len(labels)} labelled images are of class {name}: the accuracy means little"
    elif len(present) < len(names):
        absent = [names[number] or f"class {number}" for number in range(len(names)) if number not in present]
        yield (
            f"{len(absent)} of {len(names)} classes have no labelled image: {shortened(absent, MOST_ABSENT)}; "
            "the accuracy covers only the others"
        )
