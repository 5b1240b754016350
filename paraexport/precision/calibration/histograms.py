"""Observes the values of a graph on calibration images: their extremes, then a histogram between them."""

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
"""Memory for the values of one run."""
ImageBatches = Callable[[], Iterable[NDArray[np.float32]]]
"""Returns the calibration images in batches [N, C, H, W]; called once for each pass over them."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """The distribution of one value of the graph over all calibration images."""

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


def observe_histograms(model: ir.Model, names: Sequence[str], images: ImageBatches) -> dict[str, Histogram]:
    """Run the float32 graph on all images twice: for the extremes of each value, then for its histogram.

    Raises:
        DataError: there are no images, or a value is not finite.
    """
    if not names:
        return {}
    with open_probe(model, names) as run:
        extremes = observe_extremes(run, names, images)
        counts = np.zeros((len(names), BINS), np.int64)
        largest = np.abs(extremes).max(1)
        for values in run_in_pieces(run, images()):
            for index, value in enumerate(values):
                counts[index] += count_in_bins(value, largest[index])
    return {
        name: Histogram(float(low), float(high), counts[index])
        for index, (name, (low, high)) in enumerate(zip(names, extremes, strict=True))
    }


def observe_extremes(run: Probe, names: Sequence[str], images: ImageBatches) -> NDArray[np.float64]:
    """[values, 2]: the smallest and the largest number of each value."""
    extremes = np.array([[np.inf, -np.inf]] * len(names))
    for values in run_in_pieces(run, images()):
        for index, value in enumerate(values):
            low, high = extremes[index]
            extremes[index] = np.minimum(low, value.min()), np.maximum(high, value.max())
    if (extremes[:, 0] > extremes[:, 1]).any():
        raise DataError("there is no calibration image", expected="at least one", remedy="give --calib")
    if not np.isfinite(extremes).all():
        name = names[int((~np.isfinite(extremes)).any(1).argmax())]
        raise DataError(
            "a value is not finite on the calibration images",
            where=name,
            expected="finite numbers",
            got="NaN or infinity",
            remedy="check that the model answers these images in PyTorch",
        )
    return extremes


def run_in_pieces(run: Probe, batches: Iterable[NDArray[np.float32]]) -> Iterator[list[NDArray[np.float32]]]:
    """The values on all images, for as many images at a time as fit `MOST_VALUES_BYTES`."""
    size = 0
    for images in batches:
        size = size or max(1, MOST_VALUES_BYTES // (sum(value.nbytes for value in run(images[:1])) or 1))
        for start in range(0, len(images), size):
            yield run(images[start : start + size])


def count_in_bins(values: NDArray[np.float32], largest: float) -> NDArray[np.int64]:
    """How many of the values lie in each bin between -largest and largest."""
    if not largest:
        return np.bincount([BINS // 2], [values.size], BINS).astype(np.int64)
    places = ((values.ravel() / np.float32(largest) + 1) * (BINS / 2)).astype(np.int32)
    return np.bincount(np.clip(places, 0, BINS - 1), minlength=BINS).astype(np.int64)


def largest_magnitudes(model: ir.Model, names: Sequence[str], images: ImageBatches) -> Mapping[str, float]:
    """max |value| of each value. fp16 and bf16 need no more."""
    largest = np.zeros(len(names))
    with open_probe(model, names) as run:
        for values in run_in_pieces(run, images()):
            largest = np.maximum(largest, [float(np.abs(value).max()) for value in values])
    return dict(zip(names, map(float, largest), strict=True))
