"""A signal ends every command, even one that no longer runs any Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.cli.conftest import Run
from tests.cli.test_main import HEED

START = """
import ctypes, sys, threading, time
from paraexport.cli import doctor, main, watchdog

def in_c():
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.pthread_mutex_init(mutex, None)
    for _ in range(2):
        libc.pthread_mutex_lock(mutex)

def swallows():
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

def never_tidy():
    try:
        time.sleep(60)
    finally:
        in_c()

def never_joined():
    threading.Thread(target=in_c).start()
    time.sleep(60)

def diagnose():
    print("begun", file=sys.stderr, flush=True)
    globals()[work]()

work = sys.argv.pop(1)
watchdog.ENDS_S, doctor.diagnose = 0.4, diagnose
sys.exit(main())
"""


@pytest.mark.parametrize("work", ["in_c", "swallows", "never_tidy", "never_joined"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_work_that_hears_no_signal_is_ended_with_one_object(work: str, number: signal.Signals) -> None:
    command = [sys.executable, "-c", HEED, sys.executable, "-c", START, work, "doctor", "-q", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        time.sleep(0.1)
        process.send_signal(number)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert json.loads(out)["exit_code"] == 128 + number
    assert json.loads(out)["error"]["kind"] == "Interrupted"
    assert len(err.splitlines()) == 1
    assert ("a library did not stop" in err) is (work != "never_joined")


def test_a_command_inside_another_program_leaves_nothing_of_the_watchdog(run: Run) -> None:
    assert run("--version").code == 0
    assert not [thread for thread in threading.enumerate() if thread.name == "watchdog"]
    before = signal.set_wakeup_fd(-1)
    assert before == -1


def test_a_signal_to_a_forked_child_does_not_end_the_parent() -> None:
    """As multiprocessing sends them, in a user's own module."""
    code = (
        "import os, signal, sys, time\n"
        "from paraexport.cli import doctor, main, watchdog\n"
        "watchdog.ENDS_S = 0.2\n"
        "def diagnose():\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        signal.signal(signal.SIGTERM, lambda *_: os._exit(7)); os.write(2, b'.'); time.sleep(30)\n"
        "    time.sleep(0.3); os.kill(child, signal.SIGTERM)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n"
        "    time.sleep(0.5); sys.exit(5)\n"
        "doctor.diagnose = diagnose\n"
        "sys.exit(main(['doctor', '-q']))\n"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, env=environment)  # noqa: PLW1510
    assert (done.returncode, done.stderr) == (5, ".")
