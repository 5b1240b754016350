"""Runs the tests that need a GPU, in their own process and for a limited time. A step of `benchmarks.gpu.check`."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gpu.gates import VERDICTS

SECONDS, LEAST_S, GRACE_S = 150.0, 15.0, 10.0
"""Time for the tests, the least time that is worth a start, and time for pytest to write its report when stopped."""
PYTEST = """
import signal, sys, pytest
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(pytest.main())
"""
"""A process in the background of a shell ignores Ctrl-C, and so do its children; this undoes it."""
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Tests:
    passed: bool | None
    """None if no test ran, or if time ended before a test failed."""
    outcome: str

    def __str__(self) -> str:
        return f"{VERDICTS[self.passed]}: tests that need a GPU: {self.outcome}"


def run(folder: Path, left_s: float, paths: tuple[str, ...] = ("tests/targets",)) -> Tests:
    """Run the tests in `paths` that are marked `gpu`, and write `tests.txt` and `tests.xml` to `folder`.

    Args:
        folder: an existing folder.
        left_s: seconds that are left. The tests get these, but at most `SECONDS`.
        paths: relative to the repository.
    """
    if importlib.util.find_spec("pytest") is None:
        return Tests(None, "pytest is not installed; pip install -r requirements-dev.txt")
    if left_s < LEAST_S:
        return Tests(None, "no time left")
    seconds = min(SECONDS, left_s)
    report, output = folder.resolve() / "tests.xml", folder.resolve() / "tests.txt"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-c", PYTEST, "-m", "gpu", "-v", "-p", "no:cacheprovider", f"--junitxml={report}"]
    with output.open("wb") as file:
        process = subprocess.Popen([*command, *paths], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
        try:
            ended = process.wait(seconds) is not None
        except subprocess.TimeoutExpired:
            ended = False
            stop(process)
    return judge(report, f"; see {output.name}" if ended else f"; stopped after {seconds:.0f} s", process.returncode)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt pytest as Ctrl-C does, so that it still writes its report. Kill it if it hangs."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def judge(report: Path, ending: str, code: int) -> Tests:
    try:
        (suite,) = ElementTree.parse(report).getroot()  # noqa: S314  (pytest has just written it)
    except (OSError, ElementTree.ParseError):
        return Tests(False, f"pytest ended with exit code {code}, and wrote no report{ending}")
    total, failures, errors, skipped = (int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped"))
    failed = failures + errors
    passed = total - failed - skipped
    outcome = f"{passed} passed, {failed} failed, {skipped} skipped{ending}"
    if failed:
        return Tests(False, outcome)
    return Tests(True if code == 0 and passed else None, outcome)
