"""Latencies of calls in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

IDLE_SHARE = 0.05
"""Below this share of one CPU, the threads of a process count as asleep."""
IDLE_STEP_S, IDLE_AT_MOST_S = 0.02, 1.0


def time_calls(
    call: Callable[[], object],
    *,
    seconds: float = 0.0,
    at_least: int = 1,
    at_most: float = math.inf,
    pause_s: float = 0.0,
) -> list[float]:
    """Call again and again, for about `seconds`, and return the latency of each call in ms.

    Args:
        at_least: calls to make even if they take longer than `seconds`.
        at_most: calls after which to stop even if `seconds` are not over.
        pause_s: rest before each call, which is not part of its latency.
    """
    latencies_ms: list[float] = []
    started_s = time.perf_counter()
    ended_s = started_s
    while len(latencies_ms) < at_least or (ended_s - started_s < seconds and len(latencies_ms) < at_most):
        if pause_s:
            time.sleep(pause_s)
        begun_s = time.perf_counter()
        call()
        ended_s = time.perf_counter()
        latencies_ms.append(1e3 * (ended_s - begun_s))
    return latencies_ms


def wait_until_idle() -> None:
    """Wait until the threads of this process sleep, but at most `IDLE_AT_MOST_S`.

    The threads of a runtime keep spinning for a while after its last call. They would slow down the process that is
    timed next.
    """
    deadline_s = time.perf_counter() + IDLE_AT_MOST_S
    while time.perf_counter() < deadline_s:
        cpu_s = time.process_time()
        time.sleep(IDLE_STEP_S)
        if time.process_time() - cpu_s < IDLE_SHARE * IDLE_STEP_S:
            return
