"""Images a second when several threads call at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from paraexport.timing.calls import time_calls


@dataclass(frozen=True)
class Throughput:
    images_per_s: float
    threads: int
    latencies_ms: tuple[float, ...]
    """Of every call of every thread."""


def measure_throughput(call: Callable[[], object], *, images_per_call: int, threads: int, seconds: float) -> Throughput:
    """Let `threads` threads call again and again, for about `seconds`.

    Args:
        call: runs one batch of `images_per_call` images; it must be safe to call from several threads.
    """
    start_together = threading.Barrier(threads)

    def repeat_calls() -> tuple[float, list[float], float]:
        start_together.wait()
        started_s = time.perf_counter()
        latencies_ms = time_calls(call, seconds=seconds)
        return started_s, latencies_ms, time.perf_counter()

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(repeat_calls) for _ in range(threads)]
        starts_s, latencies, ends_s = zip(*(future.result() for future in running), strict=True)
    calls_ms = tuple(ms for thread_ms in latencies for ms in thread_ms)
    images_per_s = images_per_call * len(calls_ms) / (max(ends_s) - min(starts_s))
    return Throughput(images_per_s, threads, calls_ms)
