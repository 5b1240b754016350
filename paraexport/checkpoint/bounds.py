"""Limits the memory that a checkpoint file may take when it is unpacked.

A few bytes of a file can ask for tensors that fill the memory. But real weights do not compress well, and their shapes
have no more numbers than the file. So the unpacked content, as float32, may be `TIMES` times the size of the file, plus
`ROOM_BYTES` for small files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from paraexport.errors import CheckpointError

TIMES = 16
ROOM_BYTES = 64 * 2**20
MOST_DIMENSIONS = 64
FLOAT32_BYTES = 4


class UnpackedSize:
    """Adds up the memory that a file of `size_bytes` would take, and refuses too much before it is allocated."""

    def __init__(self, size_bytes: int) -> None:
        self.most_bytes = TIMES * size_bytes + ROOM_BYTES
        self.size_bytes = size_bytes
        self.bytes = 0

    def add(self, count: int) -> None:
        """Count `count` bytes; raise a CheckpointError if the sum is too large."""
        self.bytes += max(count, 0)
        if self.bytes > self.most_bytes:
            raise CheckpointError(
                "the file is damaged or malicious: unpacked, it is far larger than the file",
                expected=f"at most {self.most_bytes} bytes from {self.size_bytes}",
                got=f"{self.bytes} or more" if self.bytes < 10**30 else "far more",
                remedy="copy or save it again",
            )

    def add_tensor(self, sizes: Sequence[int]) -> None:
        """Count a tensor of this shape as float32."""
        if len(sizes) > MOST_DIMENSIONS:
            raise CheckpointError(
                "a tensor has too many dimensions", expected=f"at most {MOST_DIMENSIONS}", got=len(sizes)
            )
        self.add(FLOAT32_BYTES * math.prod(sizes) if all(size > 0 for size in sizes) else 0)
