"""How many CPUs other processes kept busy while one process worked. It reads /proc, so it needs Linux."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

BUSY_CPUS = 0.1
"""Do not trust times if other processes used more CPUs than this."""
BUSY_FIELDS = (0, 1, 2, 5, 6, 7)
"""In the first line of /proc/stat: user, nice, system, irq, softirq, steal."""
USER, SYSTEM = 11, 12
"""In /proc/PID/stat, counted after the name of the program."""


@dataclass(frozen=True)
class CpuTime:
    """CPU seconds that the machine and one process have used up to a moment."""

    at_s: float
    machine_s: float
    process_s: float

    @classmethod
    def now(cls, process_id: int) -> Self | None:
        """None if the system does not report CPU times, or the process has ended."""
        try:
            ticks_s = 1 / os.sysconf("SC_CLK_TCK")
            machine = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()[1:]
            own = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except (OSError, ValueError, AttributeError):
            return None
        used = sum(int(machine[field]) for field in BUSY_FIELDS)
        return cls(time.perf_counter(), used * ticks_s, (int(own[USER]) + int(own[SYSTEM])) * ticks_s)

    def other_cpus(self, later: CpuTime) -> float:
        """CPUs that all other processes kept busy from now until `later`, on average. 0 means an idle machine."""
        others_s = (later.machine_s - self.machine_s) - (later.process_s - self.process_s)
        return max(0.0, others_s / max(later.at_s - self.at_s, 1e-9))
