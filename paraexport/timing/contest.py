"""Times commands side by side: each in its own process, in turns of short bursts, so that noise hits all of them.

A contestant is a command. When it is ready, it prints one line of JSON: `{}`, facts about itself, or `{"error":
reason}`. Then it reads lines such as `{"batch": 8, "seconds": 0.1, "calls_at_least": 1, "pause_s": 0, "streams": 1}`.
For each line it makes calls for that time and prints a list of their latencies in ms. `serve` is this side of the
protocol.

Every runtime has a process of its own, because the thread pools of two runtimes in one process slow each other down.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from paraexport.timing.calls import time_calls, wait_until_idle
from paraexport.timing.machine_load import BUSY_CPUS, CpuTime
from paraexport.timing.percentiles import Summary, percentile, summarize
from paraexport.timing.process import Process
from paraexport.timing.stability import StoppingRule
from paraexport.timing.throughput import measure_throughput

Progress = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Contestant:
    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment of this process."""


@dataclass(frozen=True)
class Rules:
    """How a contest is run. The defaults are those of `--layout auto` and `--target auto`."""

    rounds: int = 5
    """In each round, every contestant runs one burst."""
    warm_up_rounds: int = 1
    """Rounds before these, which do not count."""
    stop: StoppingRule | None = None
    """If set, rounds go on after `rounds` until the last bursts of every contestant agree, or until `stop.at_most`."""
    enough: Callable[[Sequence[Sequence[Burst]]], bool] | None = None
    """If set, and if `stop` is set too, rounds also go on until this is true of the bursts of every contestant."""
    burst_s: float = 0.1
    calls_at_least: int = 1
    """Calls in a burst, even if they take longer than `burst_s`."""
    rest_s: float = 0.05
    """Before each burst, so that the threads of the last one fall asleep."""
    pause_s: float = 0.0
    """Before each call, for latency as after a rest."""
    streams: int = 1
    """Threads of a contestant that call at the same time."""
    rotate: bool = False
    """Change the order in every round, so that no contestant always follows the same one."""
    attempts: int = 1
    """Run a burst again, up to this often in all, if other processes used more than `quiet_cpus` CPUs meanwhile."""
    quiet_cpus: float = BUSY_CPUS
    load_at_most_s: float = 120.0

    @property
    def rounds_text(self) -> str:
        """Such as "5", or "9 to 18"."""
        return str(self.rounds) if self.stop is None else f"{self.rounds} to {self.stop.at_most}"


@dataclass(frozen=True)
class Burst:
    latencies_ms: tuple[float, ...]
    other_cpus: float | None = None
    """CPUs that other processes kept busy meanwhile; None if unknown."""

    @property
    def median_ms(self) -> float:
        return statistics.median(self.latencies_ms)

    def percentile_ms(self, percent: float) -> float:
        return percentile(self.latencies_ms, percent)


@dataclass(frozen=True)
class Timing:
    """What one contestant took, by batch size."""

    bursts: Mapping[int, tuple[Burst, ...]]
    failure: str = ""
    """Why it could not run. Then there are no bursts."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """What it reported when it was ready."""

    @property
    def bursts_ms(self) -> Mapping[int, tuple[float, ...]]:
        """The median of each burst."""
        return {batch: tuple(burst.median_ms for burst in bursts) for batch, bursts in self.bursts.items()}

    def median_ms(self, batch: int) -> float:
        """The median of the medians of the bursts."""
        return statistics.median(self.bursts_ms[batch])

    def summary(self, batch: int) -> Summary:
        """All calls together."""
        return summarize([ms for burst in self.bursts[batch] for ms in burst.latencies_ms])

    def other_cpus(self, batch: int) -> float | None:
        """CPUs that other processes kept busy during the bursts, on average; None if unknown."""
        known = [burst.other_cpus for burst in self.bursts[batch] if burst.other_cpus is not None]
        return statistics.fmean(known) if known else None


def run(
    contestants: Sequence[Contestant],
    batches: Sequence[int],
    rules: Rules | None = None,
    progress: Progress = lambda _: None,
) -> dict[str, Timing]:
    """Time every contestant with every batch size, in turns. One that cannot run keeps its reason instead."""
    rules = rules or Rules()
    with started(contestants, rules, progress) as processes:
        timed = {batch: run_batch_size(processes, batch, rules, progress) for batch in batches}
        return {
            name: Timing({}, process.failure, process.facts)
            if process.failure
            else Timing({batch: tuple(bursts[name]) for batch, bursts in timed.items()}, facts=process.facts)
            for name, process in processes.items()
        }


@contextlib.contextmanager
def started(contestants: Sequence[Contestant], rules: Rules, progress: Progress) -> Iterator[dict[str, Process]]:
    with contextlib.ExitStack() as stack:
        processes = {}
        for contestant in contestants:
            progress(contestant.name)
            process = Process(contestant.command, contestant.environment)
            stack.callback(process.close)
            process.load(rules.load_at_most_s)
            if process.failure:
                progress(f"{contestant.name}: {process.failure}")
            processes[contestant.name] = process
        yield processes


def run_batch_size(
    processes: Mapping[str, Process], batch: int, rules: Rules, progress: Progress
) -> dict[str, list[Burst]]:
    """The bursts that count, by contestant."""
    bursts: dict[str, list[Burst]] = {name: [] for name in processes}
    for number in itertools.count(-rules.warm_up_rounds):
        running = [name for name, process in processes.items() if not process.failure]
        if not running or is_over(rules, number, [bursts[name] for name in running]):
            return bursts
        for name in in_turn(running, number) if rules.rotate else running:
            burst = quiet_burst(processes[name], batch, rules)
            if burst is None:
                progress(f"{name}: {processes[name].failure}")
            elif number >= 0:
                bursts[name].append(burst)
        progress(
            f"batch {batch}, round {number + 1} of {rules.rounds_text}" if number >= 0 else f"batch {batch}, warm-up"
        )
    return bursts


def is_over(rules: Rules, rounds_done: int, bursts: Sequence[Sequence[Burst]]) -> bool:
    """Whether no further round is needed; `bursts` are those of each contestant that still runs."""
    stop = rules.stop
    if rounds_done < rules.rounds:
        return False
    if stop is None or rounds_done >= stop.at_most:
        return True
    is_stable = all(stop.stable([burst.percentile_ms(stop.percent) for burst in own]) for own in bursts)
    return is_stable and (rules.enough is None or rules.enough(bursts))


def in_turn(items: Sequence[T], number: int) -> list[T]:
    """The order of a round. Every second round runs backwards, and every two rounds another one begins."""
    shift = number // 2 % len(items)
    order = [*items[shift:], *items[:shift]]
    return order[::-1] if number % 2 else order


def quiet_burst(process: Process, batch: int, rules: Rules) -> Burst | None:
    """The least disturbed of up to `rules.attempts` bursts; None if the process failed."""
    attempts: list[Burst] = []
    for _ in range(rules.attempts):
        time.sleep(rules.rest_s)
        before = CpuTime.now(process.popen.pid)
        latencies_ms = process.burst(
            batch, rules.burst_s, rules.calls_at_least, pause_s=rules.pause_s, streams=rules.streams
        )
        after = CpuTime.now(process.popen.pid)
        if not latencies_ms:
            return None
        other_cpus = before.other_cpus(after) if before and after else None
        attempts.append(Burst(tuple(latencies_ms), other_cpus))
        if other_cpus is None or other_cpus <= rules.quiet_cpus:
            break
    return min(attempts, key=lambda burst: burst.other_cpus or 0)


def serve(
    run_batch: Callable[[int], object], facts: Mapping[str, object] | None = None, *, until_idle: bool = False
) -> None:
    """The contestant's side, once everything is loaded: burst after burst of `run_batch(batch)`, until stdin ends.

    Args:
        facts: what to report first; the contest keeps it in `Timing.facts`.
        until_idle: answer only when the threads of this process sleep, so that they disturb nobody.
    """

    def answer(message: object) -> None:
        if until_idle:
            wait_until_idle()
        print(json.dumps(message), flush=True)

    answer({**(facts or {})})
    while line := read_line():
        request = json.loads(line)
        answer(burst(functools.partial(run_batch, request["batch"]), request))


def burst(call: Callable[[], object], request: Mapping[str, Any]) -> Sequence[float]:
    """The latencies of the calls that a request asks for, in ms."""
    seconds, streams = request["seconds"], request.get("streams", 1)
    if streams > 1:
        return measure_throughput(call, images_per_call=1, threads=streams, seconds=seconds).latencies_ms
    pause_s = request.get("pause_s", 0.0)
    return time_calls(call, seconds=seconds, at_least=request["calls_at_least"], pause_s=pause_s)


def read_line() -> str:
    try:
        return input()
    except EOFError:
        return ""
