"""What a choice of precision is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Judge:
    """What is lost against PyTorch: percentage points of top-1, or without labels % of images answered otherwise."""

    reference: Array
    """PyTorch's logits [N, classes]."""
    labels: NDArray[np.int64] | None

    def lost(self, logits: Array) -> float:
        best, answer = self.reference.argmax(1), logits.argmax(1)
        if self.labels is None:
            return 100 * float((best != answer).mean())
        return 100 * float((best == self.labels).mean() - (answer == self.labels).mean())


@dataclass(frozen=True, eq=False)
class Data:
    """Images [N, C, H, W] in batches, and how answers to them are judged."""

    batches: Sequence[Array]
    judge: Judge
