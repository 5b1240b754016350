"""Times contestants side by side: one process each, short bursts in turn, so that a slow minute is slow for all.

Where other processes were busy during a burst, it is run again a few times, and the one with the least of
them counts.

A worker answers only when its threads sleep, so nobody is timed beside another's spinning threads. Within a burst the
runtimes spin as they do by default, but for OpenMP: there a waiting thread sleeps (OMP_WAIT_POLICY=PASSIVE, unless the
caller sets it), since on a machine with other work spinning made PyTorch many times slower.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

import msgspec

from benchmarks.load import Load
from benchmarks.subjects import PRODUCT, Subject
from benchmarks.worker import Burst, Failed, Opened

ROOT = Path(__file__).parent.parent
Family = Literal["peer", "ours", "peak"]
Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Contestant:
    """A graph on a runner of `benchmarks.worker`; `graph` is also where its multiply-adds are counted."""

    name: str
    family: Family
    runner: str
    graph: str


@dataclass(frozen=True)
class Timing:
    """How a contest is run."""

    rounds: int = 9
    burst_ms: float = 250.0
    """A burst has as many calls as fill this time, and 3 at least."""
    rest_s: float = 0.05
    attempts: int = 4
    """A burst beside which others used more than `quiet_cpus` CPUs is run again, so often at most."""
    quiet_cpus: float = 0.1
    threads: int = 2
    open_at_most_s: float = 300.0
    burst_at_most_s: float = 60.0


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


@dataclass(frozen=True)
class Measured:
    """One burst that counts, and the CPUs that other processes used meanwhile, where that is known."""

    latencies_ms: tuple[float, ...]
    other_cpus: float | None


class Worker:
    """A process of `benchmarks.worker`, ended on leaving the context."""

    def __init__(self, contestant: Contestant, folder: Path, batch: int, timing: Timing) -> None:
        self.timing = timing
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        threads = str(timing.threads)
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "OMP_NUM_THREADS": threads}
        arguments = (contestant.runner, str(folder), contestant.graph, str(batch), threads)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=ROOT, env=environment,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()
        self.log.close()

    def opened(self) -> Opened | Failed:
        return self.answer(Opened, self.timing.open_at_most_s)

    def burst(self, calls: int) -> Burst | Failed:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{calls}\n")
            self.process.stdin.flush()
        return self.answer(Burst, self.timing.burst_at_most_s)

    def answer(self, kind: type[T], at_most_s: float) -> T | Failed:
        """The next line, or why there was none."""
        assert self.process.stdout
        timer = threading.Timer(at_most_s, self.process.kill)
        timer.start()
        started = time.perf_counter()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        if line:
            return msgspec.json.decode(line, type=kind | Failed)
        if time.perf_counter() - started >= at_most_s:
            return Failed(f"no answer within {at_most_s:.0f} s")
        self.log.seek(0)
        return Failed(f"ended with status {self.process.wait()}: {''.join(self.log.readlines()[-1:]).strip()}")


def compete(
    contestants: Sequence[Contestant], subject: Subject, product: Subject, *, batch: int, timing: Timing, say: Say
) -> list[Row]:
    """The rows of one contest, in the order of `contestants`; `branches` and `depth` are filled in by the caller."""
    rows = {one: Row(0, 0, batch, one.name, one.family, one.runner, one.graph) for one in contestants}
    with contextlib.ExitStack() as stack:
        running: dict[Contestant, tuple[Worker, int]] = {}
        bursts: dict[Contestant, list[Measured]] = {}
        for one in contestants:
            source, images = (product, 1) if one.graph == PRODUCT else (subject, batch)
            if reason := source.failed.get(one.graph):
                rows[one] = replace(rows[one], note=reason)
                continue
            worker = stack.enter_context(Worker(one, source.folder, images, timing))
            opened = worker.opened()
            if isinstance(opened, Failed):
                say(f"  {one.name}: {opened.reason}")
                rows[one] = replace(rows[one], note=opened.reason)
                continue
            calls = max(3, round(timing.burst_ms / opened.call_ms))
            running[one], bursts[one] = (worker, calls), []
            rows[one] = replace(
                rows[one],
                calls_per_burst=calls,
                gflop=2e-9 * images * source.multiply_adds[one.graph],
                error_vs_float32=opened.error_float32,
                error_vs_float64=opened.error_float64,
                open_s=opened.open_s,
                note=source.notes.get(one.graph, ""),
            )
            say(f"  {one.name}: open after {opened.open_s:.1f} s, {opened.call_ms:.2f} ms a call")
        for number in range(timing.rounds):
            say(f"  round {number + 1} of {timing.rounds}")
            for one in rotated(list(running), number):
                worker, calls = running[one]
                answer = quiet_burst(worker, calls, timing)
                if isinstance(answer, Failed):
                    say(f"  {one.name}: {answer.reason}")
                    rows[one] = replace(rows[one], note=answer.reason)
                    del running[one], bursts[one]
                else:
                    bursts[one].append(answer)
    for one, measured in bursts.items():
        rows[one] = with_times(rows[one], measured)
    return compared(list(rows.values()))


def rotated(items: list[T], by: int) -> list[T]:
    """Nobody always follows the same place in the round's order; every other round runs backwards."""
    if not items:
        return []
    shift = by % len(items)
    turned = items[shift:] + items[:shift]
    return turned[::-1] if by % 2 else turned


def quiet_burst(worker: Worker, calls: int, timing: Timing) -> Measured | Failed:
    tries: list[Measured] = []
    for _ in range(timing.attempts):
        time.sleep(timing.rest_s)
        before = Load.now(worker.process.pid)
        answer = worker.burst(calls)
        after = Load.now(worker.process.pid)
        if isinstance(answer, Failed):
            return answer
        others = before.others(after) if before and after else None
        tries.append(Measured(answer.latencies_ms, others))
        if others is None or others <= timing.quiet_cpus:
            break
    return min(tries, key=lambda one: one.other_cpus or 0)


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
