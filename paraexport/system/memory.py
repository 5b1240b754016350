"""Gives memory of large graphs back to the system, which neither Python nor the C library does by itself."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import sys

LARGE_BYTES = 2**26
"""Of weights; below it nothing is done, since a collection takes some 0.1 s."""
M_MMAP_THRESHOLD, BLOCK_BYTES = -3, 2**20


def give_back(size_bytes: int) -> None:
    """Free what nobody holds any more, in a process that works on graphs with weights of `size_bytes`.

    Nodes and values of a graph refer to each other, so that only the garbage collector finds them.
    """
    if size_bytes >= LARGE_BYTES:
        map_large_blocks()
        gc.collect()


@functools.cache
def map_large_blocks() -> None:
    """From now on, let what is freed go back to the system at once where it is larger than 1 MiB.

    Otherwise glibc raises this limit up to 32 MiB, and keeps freed weights among blocks that are still used: a session
    of ONNX Runtime was seen to take 1.7 times its weights, and to leave as much behind.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # of glibc alone
            ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, BLOCK_BYTES)
