"""The step of `make gpu-check` that runs tests reports their outcome, and is no success if none ran."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.gpu import run_tests

HEAD = "import pytest, time\npytestmark = pytest.mark.gpu\n"
GOOD, BAD = "def test_good(): pass\n", "def test_bad(): assert 1 == 2\n"
AWAY = "def test_away(): pytest.skip('there is no GPU here')\n"
SLOW = "def test_slow(request):\n    request.path.with_name('begun').touch()\n    time.sleep(600)\n"
DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"


def ran(folder: Path, text: str) -> run_tests.Tests:
    (folder / "test_them.py").write_text(HEAD + text)
    return run_tests.run(folder, 100, (str(folder / "test_them.py"),))


@pytest.fixture
def _ends_in_the_slow_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the time when the slow test starts, however long pytest takes to get there."""
    waited: list[float | None] = []
    real = subprocess.Popen.wait

    def wait(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if not waited:
            waited.append(timeout)
            while not (tmp_path / "begun").exists():
                time.sleep(0.05)
            raise subprocess.TimeoutExpired(process.args, 100)
        return real(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)


@pytest.mark.parametrize(
    ("text", "passed", "outcome"),
    [
        (GOOD + AWAY, True, "1 passed, 0 failed, 1 skipped; see tests.txt"),
        (GOOD + BAD, False, "1 passed, 1 failed, 0 skipped; see tests.txt"),
        (AWAY, None, "0 passed, 0 failed, 1 skipped; see tests.txt"),
        ("import no_such_library\n", False, "0 passed, 1 failed, 0 skipped; see tests.txt"),
        ("import os\nos._exit(7)\n", False, "pytest ended with exit code 7, and wrote no report; see tests.txt"),
    ],
)
def test_the_outcome_counts_the_tests(tmp_path: Path, text: str, passed: bool | None, outcome: str) -> None:
    assert ran(tmp_path, text) == run_tests.Tests(passed, outcome)
    assert (tmp_path / "tests.txt").is_file()


@pytest.mark.usefixtures("_ends_in_the_slow_one")
@pytest.mark.parametrize(
    ("text", "passed", "outcome"),
    [
        (GOOD + SLOW, None, "1 passed, 0 failed, 0 skipped; stopped after 100 s"),
        (BAD + SLOW, False, "0 passed, 1 failed, 0 skipped; stopped after 100 s"),
        (DEAF + SLOW, False, "pytest ended with exit code -9, and wrote no report; stopped after 100 s"),
    ],
    ids=["good", "bad", "hangs"],
)
def test_tests_that_ran_before_the_time_ended_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, passed: bool | None, outcome: str
) -> None:
    monkeypatch.setattr(run_tests, "GRACE_S", 20.0 if DEAF not in text else 0.5)
    assert ran(tmp_path, text) == run_tests.Tests(passed, outcome)


def test_an_older_report_is_never_read(tmp_path: Path) -> None:
    assert ran(tmp_path, GOOD).passed
    assert ran(tmp_path, "import os\nos._exit(0)\n").passed is False
