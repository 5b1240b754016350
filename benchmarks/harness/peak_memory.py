"""How much memory a command holds at most, its child processes included, and how long it takes (Linux)."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

EVERY_S = 0.02
"""Between two looks; what is there for a shorter time may be missed."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
RESIDENT, SHARED = 1, 2
"""Of /proc/PID/statm: all resident pages, and those of them that belong to files."""


@dataclass(frozen=True)
class Run:
    """What a command took."""

    code: int
    seconds: float
    peak_bytes: int
    """Resident memory of all its processes together, pages of mapped files included."""
    own_bytes: int
    """The most without pages of files, which the system may take back at any time."""
    where: str
    """The stage during which the peak was reached: the last line on stderr by then."""
    stdout: str
    stderr: str


def watched(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end and watch its memory."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **(environment or {})})
        peak = own = 0
        where = ""
        while process.poll() is None:
            resident, of_files = memory(process.pid)
            if resident > peak:
                peak, where = resident, last_line(err.fileno())
            own = max(own, resident - of_files)
            time.sleep(EVERY_S)
        seconds = time.perf_counter() - started
        out.seek(0)
        err.seek(0)
        return Run(process.returncode, seconds, peak, own, where, out.read(), err.read())


def memory(process: int) -> tuple[int, int]:
    """(resident bytes, those of them that belong to files) of a process and all below it."""
    resident = of_files = 0
    for pid in family(process):
        try:
            pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        except OSError:  # it has ended
            continue
        resident += int(pages[RESIDENT]) * PAGE_BYTES
        of_files += int(pages[SHARED]) * PAGE_BYTES
    return resident, of_files


def family(process: int) -> Iterator[int]:
    """A process and its descendants."""
    yield process
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            found = children.read_text(encoding="ascii").split()
        except OSError:
            continue
        for child in found:
            yield from family(int(child))


def last_line(descriptor: int) -> str:
    """The last whole line of a file that another process is writing."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, 400, max(0, size - 400)).decode(errors="replace")
    lines = [line.strip(" .") for line in tail.splitlines() if line.strip()]
    return lines[-1] if lines else ""
