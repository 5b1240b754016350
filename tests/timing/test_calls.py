"""Latencies of calls, on a clock that the test sets."""

import pytest

from paraexport.timing import calls
from paraexport.timing.calls import time_calls, wait_until_idle


class FakeTime:
    """A clock that moves only when a call, or a sleep, takes time."""

    def __init__(self, cpu_per_sleep: tuple[float, ...] = ()) -> None:
        self.now_s, self.cpu_s, self.sleeps = 100.0, 0.0, 0
        self.cpu_per_sleep = cpu_per_sleep

    def perf_counter(self) -> float:
        return self.now_s

    def process_time(self) -> float:
        return self.cpu_s

    def sleep(self, seconds: float) -> None:
        """Other threads of the process use the next share of `cpu_per_sleep` meanwhile; the last share repeats."""
        self.now_s += seconds
        self.cpu_s += seconds * self.cpu_per_sleep[min(self.sleeps, len(self.cpu_per_sleep) - 1)]
        self.sleeps += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    clock = FakeTime()
    monkeypatch.setattr(calls, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("seconds", "at_least", "expected_ms"),
    [
        (0, 1, [1000]),
        (0, 3, [1000, 2000, 3000]),
        (3, 1, [1000, 2000]),
        (3.5, 1, [1000, 2000, 3000]),
        (3, 4, [1000, 2000, 3000, 4000]),
    ],
)
def test_calls_repeat_for_the_time_and_at_least_so_often(
    clock: FakeTime, seconds: float, at_least: int, expected_ms: list[float]
) -> None:
    durations_s = iter([1.0, 2.0, 3.0, 4.0, 5.0])

    def call() -> None:
        clock.now_s += next(durations_s)

    assert time_calls(call, seconds=seconds, at_least=at_least) == pytest.approx(expected_ms)


def test_an_error_of_a_call_is_raised() -> None:
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        time_calls(fail)


@pytest.mark.parametrize(
    ("cpu_per_sleep", "sleeps"), [((0.0,), 1), ((1.0, 0.5, 0.04), 3), ((1.0,), 50)], ids=["idle", "settles", "spins on"]
)
def test_waiting_ends_when_threads_sleep_or_after_a_second(
    monkeypatch: pytest.MonkeyPatch, cpu_per_sleep: tuple[float, ...], sleeps: int
) -> None:
    clock = FakeTime(cpu_per_sleep)
    monkeypatch.setattr(calls, "time", clock)
    wait_until_idle()
    assert clock.sleeps == pytest.approx(sleeps, abs=1 if sleeps == 50 else 0)
