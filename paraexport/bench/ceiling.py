"""Measures what this machine can do at most: multiply-adds of a large float32 product, bytes of a large copy."""

from __future__ import annotations

import os
import subprocess

from paraexport.system import process

SIZE, COPY_VALUES = 1536, 2**24
"""Rows and columns of the matrices; numbers of float32 in the copy."""
STATEMENT = """
import time
import numpy as np
{prepare}
seconds = []
for _ in range(8):
    started_s = time.perf_counter()
    {work}
    seconds.append(time.perf_counter() - started_s)
print(min(seconds))
"""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""The variables from which libraries for matrices read their number of threads, before they start."""


def multiply_adds_per_s(threads: int | None = None) -> float | None:
    """Multiply-adds a second of a large product; None if NumPy cannot run.

    Args:
        threads: threads of the product; None for all CPUs.
    """
    matrices = f"left, right = (np.random.default_rng(seed).random(({SIZE}, {SIZE}), np.float32) for seed in (0, 1))"
    seconds = shortest_s(matrices, "left @ right", threads)
    return None if seconds is None else SIZE**3 / seconds


def copy_bytes_per_s() -> float | None:
    """Bytes a second of a large copy, read and written together; None if NumPy cannot run."""
    arrays = f"source = np.ones({COPY_VALUES}, np.float32); target = np.empty_like(source)"
    seconds = shortest_s(arrays, "np.copyto(target, source)")
    return None if seconds is None else 2 * 4 * COPY_VALUES / seconds


def shortest_s(prepare: str, work: str, threads: int | None = None) -> float | None:
    """Run `work` several times in a process of its own, so that the number of threads holds. The fastest run counts."""
    environment = {**os.environ, **({} if threads is None else dict.fromkeys(THREADS, str(threads)))}
    command = process.command(STATEMENT.format(prepare=prepare, work=work))
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    try:
        return float(done.stdout) if done.returncode == 0 else None
    except ValueError:
        return None
