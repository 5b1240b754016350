"""Percentiles of latencies, reported only when there are enough calls."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PERCENTS = (50, 90, 95, 99)
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """What a set of calls took, in ms."""

    calls: int
    mean_ms: float
    fastest_ms: float
    percentiles_ms: Mapping[int, float]
    """By percent. A percentile with too few calls is left out."""


def percentile(values: Sequence[float], percent: float) -> float:
    """The percentile of one or more values, interpolated linearly between neighbours (as numpy does by default)."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def calls_needed(percent: float) -> int:
    """How many calls a percentile needs: the slowest of them lies beyond it with a confidence of 95 %.

    That is the smallest n with 1 - (percent / 100)^n >= 0.95: 5 calls for P50, 29 for P90, 59 for P95, 299 for P99
    (S. S. Wilks, "Determination of sample sizes for setting tolerance limits", 1941).
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(percent / 100))


def summarize(latencies_ms: Sequence[float], percents: Sequence[int] = PERCENTS) -> Summary:
    """The summary of one or more calls."""
    calls = len(latencies_ms)
    return Summary(
        calls,
        statistics.fmean(latencies_ms),
        min(latencies_ms),
        {percent: percentile(latencies_ms, percent) for percent in percents if calls >= calls_needed(percent)},
    )
