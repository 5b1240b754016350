"""Throughput of calls that take a known time."""

import threading
import time

import pytest

from paraexport.timing.throughput import measure_throughput


@pytest.mark.parametrize("threads", [1, 4])
def test_calls_that_only_wait_run_side_by_side(threads: int) -> None:
    measured = measure_throughput(lambda: time.sleep(0.02), images_per_call=8, threads=threads, seconds=0.2)
    ideal = 8 * threads / 0.02
    assert 0.3 * ideal <= measured.images_per_s <= ideal
    assert measured.threads == threads
    assert min(measured.latencies_ms) >= 20


def test_calls_that_take_turns_gain_nothing_from_threads() -> None:
    lock = threading.Lock()

    def call() -> None:
        with lock:
            time.sleep(0.02)

    measured = measure_throughput(call, images_per_call=1, threads=4, seconds=0.2)
    assert 0.3 * 50 <= measured.images_per_s <= 50


def test_an_error_in_a_thread_is_raised() -> None:
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        measure_throughput(fail, images_per_call=1, threads=2, seconds=0.1)
