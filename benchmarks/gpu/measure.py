"""Measures one model of `benchmarks.gpu.check`: latency at every batch, and the error against PyTorch."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.rows import Row
from benchmarks.harness.prepared import BATCHES, Prepared
from paraexport.checks.limits import LIMITS
from paraexport.timing.calls import time_calls
from paraexport.timing.stability import StoppingRule, Windows, repeat_until_stable

WARM_UP_CALLS, WINDOW_S = 5, 0.1
RULE = StoppingRule(at_most=10)
Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def time_until_stable(call: Callable[[], object]) -> Windows:
    """Latencies of a call, from images on the host to logits on the host."""
    time_calls(call, at_least=WARM_UP_CALLS)
    return repeat_until_stable(functools.partial(time_calls, call, seconds=WINDOW_S), RULE)


def measure_batches(row: Row, prepared: Prepared, run: Run) -> Iterator[Row]:
    """`row` at every batch."""
    expected, limit = prepared.expected, LIMITS[row.precision]["parity"].value
    for batch in BATCHES:
        images = prepared.images[:batch]
        error = float(np.abs(run(images) - expected[:batch]).max() / np.abs(expected).max())
        windows = time_until_stable(functools.partial(run, images))
        note = "; ".join(filter(None, [row.note, "" if windows.stable else "unstable latency"]))
        yield dataclasses.replace(
            row, batch=batch, latency_ms=windows.latency_ms, error=error, passed=error <= limit, note=note
        )
