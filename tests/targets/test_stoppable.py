"""A call in a thread of its own, which signals stop."""

import subprocess
import sys

import pytest

from paraexport.targets.trt.stoppable import stoppable

SCENARIO = """
import signal, threading, time
from paraexport.targets.trt.stoppable import stoppable

signal.signal(signal.SIGINT, signal.default_int_handler)
stop, ended = threading.Event(), threading.Event()

def interrupt():
    time.sleep(0.1)  # until the main thread waits
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

def call():
    interrupt()
    assert stop.wait(10)
    MORE
    time.sleep(0.1)
    ended.set()

try:
    stoppable(call, stop.set)
except KeyboardInterrupt:
    print("interrupted", ended.is_set())
"""
"""It runs in a process of its own: a signal that comes late must not end the process of the tests."""


def test_a_call_gives_its_result_or_what_it_raises() -> None:
    assert stoppable(lambda: 3, lambda: None) == 3
    with pytest.raises(ZeroDivisionError):
        stoppable(lambda: 1 // 0, lambda: None)


@pytest.mark.parametrize("more", ["pass", "interrupt()"], ids=["one interruption", "two interruptions"])
def test_an_interruption_waits_for_the_call_to_end(more: str) -> None:
    code = SCENARIO.replace("MORE", more)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted True\n", "", 0)
