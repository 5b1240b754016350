"""Chooses from a value's histogram the part of its range that int8 covers.

- `minmax` covers the whole range.
- `mse` cuts the tails off if that makes the mean square error smaller, of rounding and clipping together.
- `percentile` cuts off 0.01 % at each end.
- `entropy` keeps the distribution that is closest to the original in Kullback-Leibler divergence (NVIDIA, GTC 2017,
  S7310), as ONNX Runtime computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paraexport.precision.calibration.histograms import Histogram

PERCENT = 99.99
FRACTIONS = np.linspace(1.0, 0.3, 71)
"""`mse` tries these fractions of the largest value as the end of the range."""
ENTROPY_BINS, QUANTISED_BINS = 2048, 128
SMALLEST = float(np.finfo(np.float32).tiny)
Range = tuple[float, float]
"""(lowest, highest) real number that int8 covers."""


@dataclass(frozen=True)
class Scale:
    """real = (integer − zero_point) · scale. The integer is in [0, 255], or in [-127, 127] if signed."""

    scale: float
    zero_point: int
    signed: bool

    @property
    def bounds(self) -> tuple[int, int]:
        return (-127, 127) if self.signed else (0, 255)


def scale_for(covered: Range, *, signed: bool) -> Scale:
    """The scale that covers a range, widened to contain zero.

    A signed scale is symmetric, with zero point 0. An unsigned one uses both ends fully, and zero is an integer.
    """
    low, high = min(covered[0], 0.0), max(covered[1], 0.0)
    if signed:
        return Scale(float(np.float32(max(-low, high) / 127)) or 1.0, 0, True)
    scale = float(np.float32(max((high - low) / 255, SMALLEST))) if high > low else 1.0
    return Scale(scale, round(-low / scale), False)


def quantised(values: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    """The values, rounded and clipped to what int8 can represent with this scale."""
    lowest, highest = scale.bounds
    return (np.clip(np.rint(values / scale.scale) + scale.zero_point, lowest, highest) - scale.zero_point) * scale.scale


def minmax(histogram: Histogram, signed: bool) -> Range:  # noqa: ARG001
    return histogram.low, histogram.high


def percentile(histogram: Histogram, signed: bool) -> Range:
    shares = np.cumsum(histogram.counts) / histogram.counts.sum()
    edges = np.linspace(-histogram.largest, histogram.largest, len(histogram.counts) + 1)
    tail = 1 - PERCENT / 100
    low = max(histogram.low, float(edges[int(np.searchsorted(shares, tail, "right"))]))
    high = min(histogram.high, float(edges[min(int(np.searchsorted(shares, 1 - tail)) + 1, len(edges) - 1)]))
    return (-max(-low, high), max(-low, high)) if signed else (low, high)


def mse(histogram: Histogram, signed: bool) -> Range:
    centres, counts = histogram.centres, histogram.counts

    def error(covered: Range) -> float:
        return float((counts * (quantised(centres, scale_for(covered, signed=signed)) - centres) ** 2).sum())

    if signed:
        best = min((float(fraction) * histogram.largest for fraction in FRACTIONS), key=lambda end: error((-end, end)))
        return -best, best
    low, high = histogram.low, histogram.high
    high = min((float(fraction) * high for fraction in FRACTIONS), key=lambda end: error((low, end)))
    low = min((float(fraction) * low for fraction in FRACTIONS), key=lambda end: error((end, high)))
    return low, high


def entropy(histogram: Histogram, signed: bool) -> Range:  # noqa: ARG001
    from onnxruntime.quantization.calibrate import HistogramCollector

    if not histogram.largest:
        return 0.0, 0.0
    collector = HistogramCollector("entropy", True, ENTROPY_BINS, QUANTISED_BINS, PERCENT, "same")
    # ONNX Runtime expects an odd number of bins, with one in the middle: merge whole bins and append an empty one.
    merged = np.append(histogram.counts.reshape(ENTROPY_BINS, -1).sum(1), 0)
    edges = np.linspace(-histogram.largest, histogram.largest + 2 * histogram.largest / ENTROPY_BINS, ENTROPY_BINS + 2)
    low, high = collector.get_entropy_threshold(
        (merged, edges, np.float64(histogram.low), np.float64(histogram.high), np.float64(histogram.largest)),
        QUANTISED_BINS,
    )
    return float(low), float(high)


BEST = ("minmax", "mse")
"""The calibrators that `auto` tries. No other one was ever better."""
CALIBRATORS: Mapping[str, Callable[[Histogram, bool], Range]] = {
    "mse": mse,
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
}
