"""Whether a runtime's products of uint8 and int8 saturate on this CPU: its own kernels are asked, and not the CPU.

Without VNNI they add pairs of products in 16 bits, where 2 · 255 · 127 does not fit. Runtimes and kernels change, and
so does what a CPU calls its instructions; a product whose answer is known tells at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROWS = (1, 16)
"""One row has a kernel of its own."""
INNER, COLUMNS = 64, 32


def saturates(multiply: Callable[[NDArray[np.uint8], NDArray[np.int8]], ArrayLike]) -> bool:
    """A product of the largest numbers, uint8 [rows, 64] times int8 [64, 32], comes out wrong."""
    weight = np.full((INNER, COLUMNS), 127, np.int8)
    weight[:, ::2] = -127
    images = (np.full((rows, INNER), 255, np.uint8) for rows in ROWS)
    return any(not np.array_equal(multiply(image, weight), image.astype(np.int64) @ weight) for image in images)
