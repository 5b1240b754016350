"""Counts the CPUs of this machine, and checks a requested number of threads."""

from __future__ import annotations

import operator
import os

from paraexport.errors import InputError, brief

THREADS_A_CPU, ALWAYS_ALLOWED = 4, 64
"""`ALWAYS_ALLOWED` lets settings for a large machine work on a small one too."""


def usable_cpus() -> int:
    """The number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checked_threads(threads: object) -> int | None:
    """The number of threads inside one call. None means the runtime's own choice.

    Raises:
        InputError: it is no whole number, or it is so large that the runtime would hang while it starts them.
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
            "the number of threads is not possible",
            expected=f"a whole number from 1 to {most}",
            got=brief(threads),
            remedy=f"leave it out, or give about {cpus}, the number of CPUs here; more threads are not faster",
        )
    return count
