"""Measures how many multiply-adds a second this machine can do at most: one large product of float32 matrices."""

from __future__ import annotations

import os
import subprocess

from paraexport.system import process

SIZE, PRODUCTS = 1536, 8
"""Rows and columns of the matrices, and how often they are multiplied. The fastest product counts."""
STATEMENT = f"""
import time
import numpy as np
left, right = (np.random.default_rng(seed).random(({SIZE}, {SIZE}), np.float32) for seed in (0, 1))
seconds = []
for _ in range({PRODUCTS}):
    started_s = time.perf_counter()
    left @ right
    seconds.append(time.perf_counter() - started_s)
print({SIZE}**3 / min(seconds))
"""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""The variables from which libraries for matrices read their number of threads, before they start."""


def multiply_adds_per_s(threads: int | None = None) -> float | None:
    """Measure in a process of its own, so that the number of threads holds; None if NumPy cannot run there.

    Args:
        threads: threads of the product; None for all CPUs.
    """
    environment = {**os.environ, **({} if threads is None else dict.fromkeys(THREADS, str(threads)))}
    done = subprocess.run(  # noqa: S603 (our own statement)
        process.command(STATEMENT), capture_output=True, text=True, check=False, env=environment
    )
    try:
        return float(done.stdout) if done.returncode == 0 else None
    except ValueError:
        return None
