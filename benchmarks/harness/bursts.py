"""One contestant's process, and its bursts: an answer comes when its threads sleep, and a disturbed burst is run again.

Nobody is timed beside another's spinning threads. Within a burst the runtimes spin as they do by default, but for
OpenMP: there a waiting thread sleeps (OMP_WAIT_POLICY=PASSIVE, unless the caller sets it), since spinning made PyTorch
many times slower on a machine with other work.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from benchmarks.harness.load import Load
from benchmarks.harness.worker import Burst, Failed, Opened

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


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
class Measured:
    """One burst that counts, and the CPUs that other processes used meanwhile, where that is known."""

    latencies_ms: tuple[float, ...]
    other_cpus: float | None


class Worker:
    """A process of `benchmarks.harness.worker`, ended on leaving the context."""

    def __init__(self, runner: str, folder: Path, graph: str, batch: int, timing: Timing) -> None:
        self.timing = timing
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        threads = str(timing.threads)
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "OMP_NUM_THREADS": threads}
        arguments = (runner, str(folder), graph, str(batch), threads)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness.worker", *arguments],
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


def quiet_burst(worker: Worker, calls: int, timing: Timing) -> Measured | Failed:
    """The burst, of at most `timing.attempts`, beside which other processes were least busy."""
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
