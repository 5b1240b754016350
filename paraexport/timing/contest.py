"""Contestants timed side by side: one process each, in turns of short bursts, so that noise strikes all alike.

A contestant is a command. It prints one line of JSON when it is ready, `{}` or `{"error": reason}`; then, for every
line `{"batch": N, "seconds": S}` that it reads, a list of latencies in ms: those of a burst of about S seconds.
Runtimes share nothing that way: the thread pools of two of them in one process slow each other down.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

BURST_S, REST_S = 0.1, 0.05
"""A rest between bursts lets the last one's idle threads fall asleep."""
ROUNDS = 5
LOAD_AT_MOST_S, BURST_AT_MOST_S = 120.0, 60.0
PATIENCE_S = 5.0


@dataclass(frozen=True)
class Contestant:
    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beside this process's own."""


@dataclass(frozen=True)
class Timing:
    """One contestant's latencies in ms: by batch size, the median of each burst."""

    bursts_ms: Mapping[int, tuple[float, ...]]
    failure: str = ""
    """Why it could not run; then there is no latency."""

    def median_ms(self, batch: int) -> float:
        return statistics.median(self.bursts_ms[batch])


class Process:
    """A contestant that runs; `failure` says why it does not."""

    def __init__(self, contestant: Contestant) -> None:
        self.failure = ""
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (a pipe that nobody reads would fill up)
        self.popen = subprocess.Popen(  # noqa: S603 (commands of our own)
            contestant.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **contestant.environment},
        )

    def load(self) -> None:
        """Wait until it is ready."""
        answer = self.answer(LOAD_AT_MOST_S)
        if isinstance(answer, dict) and "error" in answer:
            self.failure = str(answer["error"])

    def answer(self, at_most_s: float) -> object:
        """The next object or list in JSON, or None, with `failure` set, where none comes.

        Other lines are left out: a library may greet on stdout.
        """
        timer = threading.Timer(at_most_s, self.popen.kill)
        started_s = time.monotonic()
        timer.start()
        try:
            for line in stream(self.popen.stdout):
                with contextlib.suppress(ValueError):
                    if isinstance(found := json.loads(line), dict | list):
                        return found
            code = self.popen.wait()
        finally:
            timer.cancel()
        if time.monotonic() - started_s >= at_most_s:
            self.failure = f"no answer within {at_most_s:g} s"
            return None
        self.errors.seek(0)
        told = [text.strip() for text in self.errors if text.strip()]
        self.failure = told[-1] if told else f"the process ended with code {code}"
        return None

    def burst(self, batch: int, seconds: float) -> list[float]:
        """Latencies in ms; empty, with `failure` set, when it broke down."""
        try:
            print(json.dumps({"batch": batch, "seconds": seconds}), file=self.popen.stdin, flush=True)
        except OSError as error:
            self.failure = str(error)
            return []
        answer = self.answer(BURST_AT_MOST_S + seconds)
        if isinstance(answer, dict):
            self.failure = str(answer.get("error", "it answered without latencies"))
        return answer if isinstance(answer, list) else []

    def close(self) -> None:
        with contextlib.suppress(OSError):
            stream(self.popen.stdin).close()
        try:
            self.popen.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        stream(self.popen.stdout).close()
        self.errors.close()


def run(
    contestants: Sequence[Contestant],
    batches: Sequence[int],
    *,
    rounds: int = ROUNDS,
    burst_s: float = BURST_S,
    rest_s: float = REST_S,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Timing]:
    """Time every contestant with every batch size, in turns; one that cannot run keeps its reason instead."""
    with started(contestants, progress) as processes:
        bursts: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in batches} for name in processes}
        for batch in batches:
            for turn in range(rounds + 1):
                for name, process in processes.items():
                    if process.failure:
                        continue
                    latencies = process.burst(batch, burst_s)
                    if latencies and turn:  # the first turn warms up
                        bursts[name][batch].append(statistics.median(latencies))
                    time.sleep(rest_s)
                progress(f"batch {batch}, round {turn} of {rounds}")
        return {
            name: Timing({}, process.failure)
            if process.failure
            else Timing({batch: tuple(found) for batch, found in bursts[name].items()})
            for name, process in processes.items()
        }


@contextlib.contextmanager
def started(contestants: Sequence[Contestant], progress: Callable[[str], None]) -> Iterator[dict[str, Process]]:
    with contextlib.ExitStack() as stack:
        processes = {}
        for contestant in contestants:
            progress(contestant.name)
            processes[contestant.name] = Process(contestant)
            stack.callback(processes[contestant.name].close)
            processes[contestant.name].load()
        yield processes


def serve(run_batch: Callable[[int], object]) -> None:
    """The contestant's side, after all is loaded: burst after burst of `run_batch(batch)`, until stdin ends."""
    print("{}", flush=True)
    while line := read_line():
        asked = json.loads(line)
        latencies: list[float] = []
        end = time.perf_counter() + asked["seconds"]
        while not latencies or time.perf_counter() < end:
            start = time.perf_counter()
            run_batch(asked["batch"])
            latencies.append(1e3 * (time.perf_counter() - start))
        print(json.dumps(latencies), flush=True)


def read_line() -> str:
    try:
        return input()
    except EOFError:
        return ""


def stream(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
