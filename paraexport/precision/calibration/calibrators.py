"""Which part of a value's range int8 is to cover, told from its histogram.

`minmax` covers all of it. `mse` leaves out tails where that makes the mean square error smaller, rounding and clipping
together. `percentile` leaves out 0.01 % at each end. `entropy` keeps the distribution closest to the original in
Kullback-Leibler divergence (NVIDIA, GTC 2017, S7310), as ONNX Runtime computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paraexport.precision.calibration.ranges import Histogram

PERCENT = 99.99
FRACTIONS = np.linspace(1.0, 0.3, 71)
ENTROPY_BINS, QUANTISED_BINS = 2048, 128
SMALLEST = float(np.finfo(np.float32).tiny)
Ends = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """real = (integer - zero_point) · scale, the integer within [lowest, lowest + 255], or [-127, 127] where signed."""

    scale: float
    zero_point: int
    signed: bool

    @property
    def bounds(self) -> tuple[int, int]:
        return (-127, 127) if self.signed else (0, 255)


def scale_for(ends: Ends, *, signed: bool) -> Scale:
    """The scale that covers a range: symmetric where signed; else zero is an integer, and both ends are used fully."""
    low, high = min(ends[0], 0.0), max(ends[1], 0.0)
    if signed:
        return Scale(float(np.float32(max(-low, high) / 127)) or 1.0, 0, True)
    scale = float(np.float32(max((high - low) / 255, SMALLEST))) if high > low else 1.0
    return Scale(scale, round(-low / scale), False)


def quantised(values: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    """The real numbers that the integers stand for."""
    lowest, highest = scale.bounds
    return (np.clip(np.rint(values / scale.scale) + scale.zero_point, lowest, highest) - scale.zero_point) * scale.scale


def minmax(seen: Histogram, signed: bool) -> Ends:  # noqa: ARG001
    return seen.low, seen.high


def percentile(seen: Histogram, signed: bool) -> Ends:
    shares = np.cumsum(seen.counts) / seen.counts.sum()
    edges = np.linspace(-seen.largest, seen.largest, len(seen.counts) + 1)
    tail = 1 - PERCENT / 100
    low = max(seen.low, float(edges[int(np.searchsorted(shares, tail, "right"))]))
    high = min(seen.high, float(edges[min(int(np.searchsorted(shares, 1 - tail)) + 1, len(edges) - 1)]))
    return (-max(-low, high), max(-low, high)) if signed else (low, high)


def mse(seen: Histogram, signed: bool) -> Ends:
    centres, counts = seen.centres, seen.counts

    def error(ends: Ends) -> float:
        return float((counts * (quantised(centres, scale_for(ends, signed=signed)) - centres) ** 2).sum())

    if signed:
        best = min((float(fraction) * seen.largest for fraction in FRACTIONS), key=lambda end: error((-end, end)))
        return -best, best
    low, high = seen.low, seen.high
    high = min((float(fraction) * high for fraction in FRACTIONS), key=lambda end: error((low, end)))
    low = min((float(fraction) * low for fraction in FRACTIONS), key=lambda end: error((end, high)))
    return low, high


def entropy(seen: Histogram, signed: bool) -> Ends:  # noqa: ARG001
    from onnxruntime.quantization.calibrate import HistogramCollector

    if not seen.largest:
        return 0.0, 0.0
    collector = HistogramCollector("entropy", True, ENTROPY_BINS, QUANTISED_BINS, PERCENT, "same")
    # Whole bins merged; one more at the end makes their number odd, so that one is in the middle.
    merged = np.append(seen.counts.reshape(ENTROPY_BINS, -1).sum(1), 0)
    edges = np.linspace(-seen.largest, seen.largest + 2 * seen.largest / ENTROPY_BINS, ENTROPY_BINS + 2)
    low, high = collector.get_entropy_threshold(
        (merged, edges, np.float64(seen.low), np.float64(seen.high), np.float64(seen.largest)), QUANTISED_BINS
    )
    return float(low), float(high)


BEST = ("minmax", "mse")
"""What `auto` tries: no other was ever better."""
CALIBRATORS: Mapping[str, Callable[[Histogram, bool], Ends]] = {
    "mse": mse,
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
}
