"""A call in a thread of its own, which signals stop."""

import signal
import threading
import time

import pytest

from paraexport.targets.trt.stoppable import stoppable

MAIN = threading.main_thread().ident or 0


def interrupt() -> None:
    time.sleep(0.1)  # until the main thread waits
    signal.pthread_kill(MAIN, signal.SIGINT)


def test_a_call_gives_its_result_or_what_it_raises() -> None:
    assert stoppable(lambda: 3, lambda: None) == 3
    with pytest.raises(ZeroDivisionError):
        stoppable(lambda: 1 // 0, lambda: None)


def test_an_interruption_waits_for_the_call_to_end() -> None:
    stop, ended = threading.Event(), threading.Event()

    def call() -> None:
        interrupt()
        assert stop.wait(10)
        time.sleep(0.1)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        stoppable(call, stop.set)
    assert ended.is_set()


def test_a_second_interruption_does_not_cut_the_waiting_short() -> None:
    stop, ended = threading.Event(), threading.Event()

    def call() -> None:
        interrupt()
        assert stop.wait(10)
        interrupt()
        time.sleep(0.1)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        stoppable(call, stop.set)
    assert ended.is_set()
