"""The tests that need a GPU, as one step of `benchmarks.gpu.check`: in a process of their own, for a limited time."""

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
"""That they may take; that pytest needs to begin; and that it may take to write down how far it came."""
PYTEST = """
import signal, sys, pytest
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(pytest.main())
"""
"""What is started in the background of a shell ignores Ctrl-C, and so do the programs that it starts."""
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Tests:
    passed: bool | None
    """None where none ran, or time ended before one had failed."""
    told: str

    def __str__(self) -> str:
        return f"{VERDICTS[self.passed]}: tests that need a GPU: {self.told}"


def run(folder: Path, left_s: float, paths: tuple[str, ...] = ("tests/targets",)) -> Tests:
    """The tests marked `gpu` of `paths`; what they say is left in `folder`, as `tests.txt` and `tests.xml`.

    Args:
        folder: it exists.
        left_s: they may take this long, in seconds, or `SECONDS` if that is less.
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
    return judged(report, f"; see {output.name}" if ended else f"; stopped after {seconds:.0f} s", process.returncode)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it as Ctrl-C does, after which pytest still writes its report; a call that hangs is killed."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def judged(report: Path, ending: str, code: int) -> Tests:
    try:
        (suite,) = ElementTree.parse(report).getroot()  # noqa: S314  pytest wrote it a moment ago
    except (OSError, ElementTree.ParseError):
        return Tests(False, f"pytest ended with exit code {code}, and left no report{ending}")
    total, failed, broken, skipped = (int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped"))
    failed += broken
    passed = total - failed - skipped
    told = f"{passed} passed, {failed} failed, {skipped} skipped{ending}"
    if failed:
        return Tests(False, told)
    return Tests(True if code == 0 and passed else None, told)
