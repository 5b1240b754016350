"""Tests whether a runtime's products of uint8 and int8 saturate on this CPU.

Without VNNI, kernels add pairs of products in 16 bits, and 2 · 255 · 127 does not fit. The flags of the CPU are not
enough to know this, because runtimes choose different kernels. So the test runs a product with a known result.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROWS = (1, 16)
"""A runtime may have a separate kernel for one row."""
INNER, COLUMNS = 64, 32


def saturates(multiply: Callable[[NDArray[np.uint8], NDArray[np.int8]], ArrayLike]) -> bool:
    """Whether a product of the largest numbers is wrong: uint8 [rows, 64] times int8 [64, 32]."""
    weight = np.full((INNER, COLUMNS), 127, np.int8)
    weight[:, ::2] = -127
    images = (np.full((rows, INNER), 255, np.uint8) for rows in ROWS)
    return any(not np.array_equal(multiply(image, weight), image.astype(np.int64) @ weight) for image in images)
