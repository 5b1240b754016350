"""How different the images of a data set are, watched while they pass by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
ALIKE, NARROW = 2.0, 16.0
"""Levels of 255 by which a pixel varies from image to image, and by which all pixels differ, in images that are poor
evidence: noise of a camera is as large."""


@dataclass(frozen=True, eq=False)
class Variety:
    """What is known of preprocessed images [N, C, H, W]."""

    digests: tuple[bytes, ...]
    """Of each image, in order; equal images have equal ones."""
    plain: int
    """Images of one colour."""
    still: tuple[int, ...]
    """Channels that have one value in all images, from 0."""
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
        """The places of `count` different images, evenly spaced, or of all if there are fewer."""
        places = np.array([*{digest: place for place, digest in [*enumerate(self.digests)][::-1]}.values()])
        places.sort()
        count = min(count, len(places))
        return np.asarray(places[np.arange(count) * len(places) // max(count, 1)], np.intp)

    def part(self, places: Iterable[int]) -> set[bytes]:
        """The digests of the images at these places."""
        return {self.digests[place] for place in places}


class Watch:
    """Collects the variety of images that pass by, batch by batch."""

    def __init__(self) -> None:
        self.digests: list[bytes] = []
        self.plain = 0
        self.low = self.high = self.sums = self.squares = np.zeros(0)

    def watch(self, batches: Iterable[Images]) -> Iterator[Images]:
        """`batches`, [N, C, H, W] each, as they are."""
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


def of_batches(batches: Iterable[Images]) -> Variety:
    watch = Watch()
    for images in batches:
        watch.add(images)
    return watch.variety()


def weaknesses(seen: Variety, std: Sequence[float]) -> Iterator[str]:
    """What makes the images poor evidence, one clause each: `all 64 images are equal`.

    `std` is that of the preprocessing, one number or one a channel: it leads back to pixels from 0 to 255.
    """
    count = seen.images
    pixels = 255 * np.array(std)
    if count > 1 and seen.distinct == 1:
        yield f"all {count} images are equal"
    elif 2 * seen.distinct <= count:
        yield f"only {seen.distinct} of {count} images are different"
    elif count > 1 and (levels := float((seen.variation * pixels).max())) < ALIKE:
        yield f"the {count} images are nearly equal: a pixel varies by {levels:.2g} of 255 levels"
    if seen.plain == count:
        yield "the image has one colour" if count == 1 else f"each of the {count} images has one colour"
    elif 4 * seen.plain >= count:
        yield f"{seen.plain} of {count} images have one colour each"
    elif (levels := float((seen.span * pixels).max())) < NARROW:
        yield f"the pixels of all images lie within {levels:.3g} of 255 levels"
    elif count > 1 and seen.still:
        channels = ", ".join(map(str, seen.still))
        yield f"channel{'s' if len(seen.still) > 1 else ''} {channels} never varied in {count} images"


def weak_classes(labels: NDArray[np.int64] | None, names: Sequence[str]) -> Iterator[str]:
    """Why accuracy on images with these labels says little."""
    if labels is None or len(names) < 2:
        return
    present = np.unique(labels)
    if len(present) == 1:
        name = names[int(present[0])] or f"class {present[0]}"
        yield f"all {len(labels)} labelled images are of class {name}"
    elif 2 * len(present) < len(names):
        yield f"the labelled images are of {len(present)} of {len(names)} classes"
