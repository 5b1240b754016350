"""Gives the memory of large graphs back to the system. Python and the C library do not do this by themselves."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import sys

LARGE_BYTES = 2**26
"""Below this size of weights `give_back` does nothing: a garbage collection takes about 0.1 s."""
M_MMAP_THRESHOLD, BLOCK_BYTES = -3, 2**20


def give_back(size_bytes: int) -> None:
    """Free unused memory in a process that works on graphs with weights of `size_bytes`.

    Nodes and values of a graph refer to each other, so only the garbage collector can free them.
    """
    if size_bytes >= LARGE_BYTES:
        map_large_blocks()
        gc.collect()


@functools.cache
def map_large_blocks() -> None:
    """From now on, return every freed block larger than 1 MiB to the system at once.

    By default glibc raises this limit to up to 32 MiB, and keeps freed weights between blocks that are still used. We
    measured a session of ONNX Runtime that took 1.7 times the size of its weights, and left as much behind.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # only glibc has it
            ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, BLOCK_BYTES)
