"""Times contestants side by side: one process each, short bursts in turn, so that a slow minute is slow for all.

Where other processes were busy during a burst, it is run again a few times, and the one with the least of
them counts (`benchmarks.harness.bursts`).
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from benchmarks.harness.bursts import Measured, Timing, Worker, quiet_burst
from benchmarks.harness.subjects import PRODUCT, Subject
from benchmarks.harness.worker import Failed

Family = Literal["peer", "ours", "peak", "scale"]
"""`scale` is shown beside the others and compared with nothing."""
Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Contestant:
    """A graph on a runner of `benchmarks.harness.worker`; `graph` is also where its multiply-adds are counted."""

    name: str
    family: Family
    runner: str
    graph: str


@dataclass(frozen=True)
class Row:
    """One contestant at one size; the fields are the columns of the CSV. Where it failed, `note` says why."""

    branches: int
    depth: int
    batch: int
    contestant: str
    family: Family
    runner: str
    graph: str
    latency_ms: float | None = None
    """Of one call on the whole batch: the median of the bursts' medians; then their quartiles."""
    quartile_1_ms: float | None = None
    quartile_3_ms: float | None = None
    fastest_ms: float | None = None
    """The fastest single call."""
    rounds: int = 0
    calls_per_burst: int = 0
    other_cpus: float | None = None
    """CPUs that other processes kept busy during the bursts, on average: above 0.1 the times say little."""
    gflop: float | None = None
    """Twice the multiply-adds of the graph that ran, for the whole batch."""
    gflop_per_s: float | None = None
    share_of_peak: float | None = None
    """Of the fastest large product in the same contest."""
    speedup: float | None = None
    """Latency of the best peer in the same contest by this one's."""
    error_vs_float32: float | None = None
    """max |Δ logit| / max |logit| against PyTorch eager in float32, then in float64."""
    error_vs_float64: float | None = None
    open_s: float | None = None
    note: str = ""


def compete(
    contestants: Sequence[Contestant], subject: Subject, product: Subject, *, batch: int, timing: Timing, say: Say
) -> list[Row]:
    """The rows of one contest, in the order of `contestants`; `branches` and `depth` are filled in by the caller."""
    rows: dict[Contestant, Row] = {}
    bursts: dict[Contestant, list[Measured]] = {}
    with contextlib.ExitStack() as stack:
        workers: dict[Contestant, Worker] = {}
        for one in contestants:
            source, images = (product, 1) if one.graph == PRODUCT else (subject, batch)
            row = Row(0, 0, batch, one.name, one.family, one.runner, one.graph, note=source.notes.get(one.graph, ""))
            if reason := source.failed.get(one.graph):
                rows[one] = replace(row, note=reason)
            else:
                worker = stack.enter_context(Worker(one.runner, source.folder, one.graph, images, timing))
                rows[one] = opened(row, worker, 2e-9 * images * source.multiply_adds[one.graph])
                if rows[one].calls_per_burst:
                    workers[one], bursts[one] = worker, []
            say(f"  {one.name}: {described(rows[one])}")
        for number in range(timing.rounds):
            say(f"  round {number + 1} of {timing.rounds}")
            for one in rotated(list(workers), number):
                answer = quiet_burst(workers[one], rows[one].calls_per_burst, timing)
                if isinstance(answer, Failed):
                    rows[one] = replace(rows[one], note=answer.reason)
                    del workers[one], bursts[one]
                    say(f"  {one.name}: {answer.reason}")
                else:
                    bursts[one].append(answer)
    for one, measured in bursts.items():
        rows[one] = with_times(rows[one], measured)
    return compared(list(rows.values()))


def opened(row: Row, worker: Worker, gflop: float) -> Row:
    """What is known of a contestant before its first burst; without calls for a burst it has failed."""
    answer = worker.opened()
    if isinstance(answer, Failed):
        return replace(row, note=answer.reason)
    return replace(
        row,
        calls_per_burst=max(3, round(worker.timing.burst_ms / answer.call_ms)),
        gflop=gflop,
        error_vs_float32=answer.error_float32,
        error_vs_float64=answer.error_float64,
        open_s=answer.open_s,
    )


def described(row: Row) -> str:
    return row.note if row.open_s is None else f"open after {row.open_s:.1f} s"


def rotated(items: list[T], by: int) -> list[T]:
    """Nobody always follows the same place in the round's order; every other round runs backwards."""
    if not items:
        return []
    shift = by % len(items)
    turned = items[shift:] + items[:shift]
    return turned[::-1] if by % 2 else turned


def with_times(row: Row, bursts: Sequence[Measured]) -> Row:
    medians = [statistics.median(burst.latencies_ms) for burst in bursts]
    others = [burst.other_cpus for burst in bursts if burst.other_cpus is not None]
    low, middle, high = statistics.quantiles(medians, n=4, method="inclusive") if len(medians) > 1 else medians * 3
    rate = None if row.gflop is None else row.gflop / (middle * 1e-3)
    return replace(
        row,
        latency_ms=middle, quartile_1_ms=low, quartile_3_ms=high,
        fastest_ms=min(min(burst.latencies_ms) for burst in bursts),
        rounds=len(medians), gflop_per_s=rate, other_cpus=statistics.mean(others) if others else None,
    )  # fmt: skip


def compared(rows: list[Row]) -> list[Row]:
    """Fill in what one row says about the others of its contest."""
    peers = [row.latency_ms for row in rows if row.family == "peer" and row.latency_ms is not None]
    peaks = [row.gflop_per_s for row in rows if row.family == "peak" and row.gflop_per_s is not None]
    return [
        replace(
            row,
            speedup=min(peers) / row.latency_ms if peers and row.latency_ms and row.family != "peak" else None,
            share_of_peak=row.gflop_per_s / max(peaks) if peaks and row.gflop_per_s else None,
        )
        for row in rows
    ]
