"""What the values of a graph are on calibration images: their extremes, then a histogram between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.errors import DataError
from paraexport.targets.ort.probe import Probe, open_probe

BINS = 4096
MOST_VALUES_BYTES = 2**28
Images = Callable[[], Iterable[NDArray[np.float32]]]
"""The calibration images, batch by batch, [N, C, H, W]; called once for each pass over them."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often one value was how large."""

    low: float
    high: float
    counts: NDArray[np.int64]
    """[BINS] over [-largest, largest]."""

    @property
    def largest(self) -> float:
        return max(-self.low, self.high)

    @property
    def centres(self) -> NDArray[np.float64]:
        return np.asarray((np.arange(BINS) + 0.5) * (2 * self.largest / BINS) - self.largest, np.float64)


def observe(model: ir.Model, names: Sequence[str], images: Images) -> dict[str, Histogram]:
    """Run the float32 graph on all images, twice: for the extremes of each value, and for its histogram.

    Raises:
        DataError: there are no images, or a value is not finite.
    """
    if not names:
        return {}
    with open_probe(model, names) as run:
        return observed(run, names, images)


def observed(run: Probe, names: Sequence[str], images: Images) -> dict[str, Histogram]:
    extremes = np.array([[np.inf, -np.inf]] * len(names))
    for values in in_pieces(run, images()):
        for at, value in enumerate(values):
            extremes[at] = np.minimum(extremes[at, 0], value.min()), np.maximum(extremes[at, 1], value.max())
    if (extremes[:, 0] > extremes[:, 1]).any():
        raise DataError("there is no calibration image", expected="at least one", remedy="give --calib")
    if not np.isfinite(extremes).all():
        wrong = names[int((~np.isfinite(extremes)).any(1).argmax())]
        raise DataError(
            "a value is not finite on the calibration images",
            where=wrong,
            expected="finite numbers",
            remedy="does the model answer them in PyTorch?",
        )
    counts = np.zeros((len(names), BINS), np.int64)
    largest = np.abs(extremes).max(1)
    for values in in_pieces(run, images()):
        for at, value in enumerate(values):
            counts[at] += binned(value, largest[at])
    return {
        name: Histogram(float(low), float(high), counts[at])
        for at, (name, (low, high)) in enumerate(zip(names, extremes, strict=True))
    }


def in_pieces(run: Probe, batches: Iterable[NDArray[np.float32]]) -> Iterator[list[NDArray[np.float32]]]:
    """The values on all images, on as many at a time as keep the values within `MOST_VALUES_BYTES`."""
    size = 0
    for images in batches:
        size = size or max(1, MOST_VALUES_BYTES // (sum(value.nbytes for value in run(images[:1])) or 1))
        for start in range(0, len(images), size):
            yield run(images[start : start + size])


def binned(values: NDArray[np.float32], largest: float) -> NDArray[np.int64]:
    """How many of the values lie in each bin between -largest and largest."""
    if not largest:
        return np.bincount([BINS // 2], [values.size], BINS).astype(np.int64)
    places = ((values.ravel() / np.float32(largest) + 1) * (BINS / 2)).astype(np.int32)
    return np.bincount(np.clip(places, 0, BINS - 1), minlength=BINS).astype(np.int64)


def largest(model: ir.Model, names: Sequence[str], images: Images) -> Mapping[str, float]:
    """max |value| of each value, for formats that lose nothing but what is too large for them."""
    found = np.zeros(len(names))
    with open_probe(model, names) as run:
        for values in in_pieces(run, images()):
            found = np.maximum(found, [float(np.abs(value).max()) for value in values])
    return dict(zip(names, map(float, found), strict=True))
