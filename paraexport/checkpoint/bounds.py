"""How much a checkpoint file may unfold to: what a few of its bytes promise must not fill the memory.

Weights do not compress well, and shapes hold no more numbers than the file has. So whatever a file holds, unpacked and
as float32, is at most `TIMES` times its size, and `ROOM_BYTES` more for small files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from paraexport.errors import CheckpointError

TIMES = 16
ROOM_BYTES = 64 * 2**20
MOST_DIMENSIONS = 64
FLOAT32_BYTES = 4


class Unfolded:
    """Adds up what reading a file of `size_bytes` would make, and refuses it before it is made."""

    def __init__(self, size_bytes: int) -> None:
        self.most_bytes = TIMES * size_bytes + ROOM_BYTES
        self.size_bytes = size_bytes
        self.bytes = 0

    def add(self, count: int) -> None:
        """Raise a CheckpointError where `count` bytes more are too many."""
        self.bytes += max(count, 0)
        if self.bytes > self.most_bytes:
            raise CheckpointError(
                "the file is damaged, or made to fill the memory: it unfolds to far more than its size",
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
