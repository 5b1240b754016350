"""How `benchmarks.gpu.check` measures: the time that is left, latencies, and every batch beside PyTorch."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.rows import Row
from benchmarks.harness.prepared import BATCHES, Prepared
from paraexport.checks.limits import LIMITS

BURSTS, BURST_S, WARM_UP = 5, 0.1, 5
FIRST_S = 20.0
"""What the first step of a kind is taken to need."""
Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Clock:
    """What is left of the time that the whole may take, and how long steps took so far."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.longest: dict[str, float] = {}

    def left(self) -> float:
        """Seconds."""
        return max(self.end - time.monotonic(), 0.0)

    def refusal(self, kind: str) -> str:
        """Why a step of this kind is not begun, or nothing: the next may take twice as long as the longest so far."""
        left, longest = self.left(), self.longest.get(kind)
        if left > 2 * (longest or FIRST_S):
            return ""
        return f"no time left: {left:.0f} s, and {kind} took up to {longest:.0f} s" if longest else "no time left"

    @contextlib.contextmanager
    def step(self, kind: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.longest[kind] = max(self.longest.get(kind, 0.0), time.monotonic() - started)


def latency_ms(run: Callable[[], object]) -> float:
    """The median, over bursts, of the median in each, from images on the host to logits on the host."""
    for _ in range(WARM_UP):
        run()
    bursts = []
    for _ in range(BURSTS):
        found: list[float] = []
        end = time.perf_counter() + BURST_S
        while time.perf_counter() < end:
            start = time.perf_counter()
            run()
            found.append(1e3 * (time.perf_counter() - start))
        bursts.append(statistics.median(found))
    return statistics.median(bursts)


def measured(row: Row, prepared: Prepared, run: Run) -> Iterator[Row]:
    """`row` at every batch."""
    expected, limit = prepared.expected, LIMITS[row.precision]["parity"].value
    for batch in BATCHES:
        images = prepared.images[:batch]
        error = float(np.abs(run(images) - expected[:batch]).max() / np.abs(expected).max())
        spent = latency_ms(lambda images=images: run(images))  # type: ignore[misc]
        yield dataclasses.replace(row, batch=batch, latency_ms=spent, error=error, passed=error <= limit)
