"""Gives a reader many damaged files, and counts the outcomes."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import IO, Any

from tests.faults.reader import Reader

LONGEST_S = 20.0
START_S = 120.0


@dataclass
class Tally:
    """The outcomes of the damaged files of one reader."""

    reader: str
    read: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    """`case N: what happened`."""
    slowest_s: float = 0
    grown_mb: float = 0
    """The growth of the peak memory of a process."""

    @property
    def cases(self) -> int:
        return self.read + self.refused + len(self.failures)


def run(reader: Reader, start: int, stop: int) -> Tally:
    """Damage and read the files `start` to `stop`. A crash or a hang counts as a failure; then it continues."""
    tally = Tally(reader.name)
    while start < stop:
        start = run_process(reader, start, stop, tally)
    if tally.grown_mb > reader.memory_mb:
        tally.failures.append(f"memory grew by {tally.grown_mb:.0f} MB, allowed are {reader.memory_mb}")
    return tally


def run_process(reader: Reader, start: int, stop: int, tally: Tally) -> int:
    """Run one process until it is done, crashes or hangs. Returns the number of the first file that it did not read."""
    command = [sys.executable, "-m", "tests.faults.worker", reader.name, str(start), str(stop)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines: queue.Queue[str | None] = queue.Queue()
        stderr: list[str] = []
        threads = [
            threading.Thread(target=pump, args=(process.stdout, lines)),
            threading.Thread(target=lambda: stderr.extend(process.stderr or ())),
        ]
        for thread in threads:
            thread.start()
        try:
            ready = next_line(lines, START_S)
            if ready is None or "ready" not in ready:
                process.kill()
                threads[1].join()
                raise RuntimeError(f"the reader {reader.name} refuses its own good files: {''.join(stderr)[-2000:]}")
            while start < stop:
                line = next_line(lines, LONGEST_S)
                if line is None:
                    what = "crashed" if has_ended(process) else f"took over {LONGEST_S:.0f} s"
                    tally.failures.append(f"case {start}: {what}; {''.join(stderr)[-500:]}")
                    return start + 1
                count(line, tally)
                start = line["case"] + 1
        finally:
            process.kill()
            for thread in threads:
                thread.join()
    return start


def has_ended(process: subprocess.Popen[str]) -> bool:
    """Whether the process has ended. Its output ends a moment before it does."""
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return False
    return True


def pump(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def next_line(lines: queue.Queue[str | None], seconds: float) -> dict[str, Any] | None:
    try:
        line = lines.get(timeout=seconds)
    except queue.Empty:
        return None
    return None if line is None else json.loads(line)


def count(line: dict[str, Any], tally: Tally) -> None:
    if line["outcome"] == "bug":
        tally.failures.append(f"case {line['case']}: {line['message']}")
    elif line["outcome"] == "read":
        tally.read += 1
    else:
        tally.refused += 1
    tally.slowest_s = max(tally.slowest_s, line["seconds"])
    tally.grown_mb = max(tally.grown_mb, line["grown_mb"])
