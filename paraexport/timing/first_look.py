"""Times a few calls, to give a first idea of a model's latency."""

from __future__ import annotations

from collections.abc import Callable

from paraexport.timing.calls import time_calls
from paraexport.timing.percentiles import percentile

MOST_CALLS, WARM_UP = 15, 3
SECONDS = 0.5
"""A slow model gets fewer calls, but one call to warm up and one to time."""


def median_ms(call: Callable[[], object]) -> float:
    """The median latency of a few calls after a short warm-up, in ms."""
    time_calls(call, seconds=SECONDS, at_most=WARM_UP)
    return percentile(time_calls(call, seconds=SECONDS, at_most=MOST_CALLS), 50)
