"""The CPUs of this machine, and how many threads may be asked for on them."""

from __future__ import annotations

import operator
import os

from paraexport.errors import InputError, brief

THREADS_A_CPU, ALWAYS_ALLOWED = 4, 64
"""The second, so that settings of a larger machine work on a small one too."""


def usable_cpus() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checked_threads(threads: object) -> int | None:
    """The number of threads inside one call, or None for the runtime's own choice.

    Raises:
        InputError: no whole number, or so many that the runtime would hang while it starts them.
    """
    if threads is None:
        return None
    cpus = os.cpu_count() or 1
    most = max(THREADS_A_CPU * cpus, ALWAYS_ALLOWED)
    try:
        count = 0 if isinstance(threads, bool) else operator.index(threads)  # type: ignore[arg-type]
    except TypeError:
        count = 0
    if not 1 <= count <= most:
        raise InputError(
            "the number of threads is impossible",
            expected=f"a whole number from 1 to {most}",
            got=brief(threads),
            remedy=f"leave it out, or give about {cpus}: more threads than the CPUs here only wait for each other",
        )
    return count
