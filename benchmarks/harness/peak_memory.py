"""Peak memory of a command with its child processes, and how long it takes. It reads /proc, so it needs Linux."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

EVERY_S = 0.02
"""Between two samples. A shorter peak may be missed."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
RESIDENT, SHARED = 1, 2
"""In /proc/PID/statm: all resident pages, and those that belong to files."""


@dataclass(frozen=True)
class Run:
    """What a command used."""

    code: int
    seconds: float
    peak_bytes: int
    """Resident memory of all its processes together, with pages of mapped files."""
    own_bytes: int
    """The peak without pages of files, which the system can take back at any time."""
    stage: str
    """The stage of the peak: the last line on stderr at that time."""
    stdout: str
    stderr: str


def watched(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end and sample its memory."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **(environment or {})})
        peak = own = 0
        stage = ""
        while process.poll() is None:
            resident, file_bytes = memory(process.pid)
            if resident > peak:
                peak, stage = resident, last_line(err.fileno())
            own = max(own, resident - file_bytes)
            time.sleep(EVERY_S)
        seconds = time.perf_counter() - started
        out.seek(0)
        err.seek(0)
        return Run(process.returncode, seconds, peak, own, stage, out.read(), err.read())


def memory(process: int) -> tuple[int, int]:
    """(resident bytes, bytes of these that belong to files) of a process and its descendants."""
    resident = file_bytes = 0
    for pid in family(process):
        try:
            pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        except OSError:  # it has ended
            continue
        resident += int(pages[RESIDENT]) * PAGE_BYTES
        file_bytes += int(pages[SHARED]) * PAGE_BYTES
    return resident, file_bytes


def family(process: int) -> Iterator[int]:
    """A process and its descendants."""
    yield process
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            child_ids = children.read_text(encoding="ascii").split()
        except OSError:
            continue
        for child in child_ids:
            yield from family(int(child))


def last_line(descriptor: int) -> str:
    """The last line of a file that another process is writing."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, 400, max(0, size - 400)).decode(errors="replace")
    lines = [line.strip(" .") for line in tail.splitlines() if line.strip()]
    return lines[-1] if lines else ""
