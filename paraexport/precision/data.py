"""What a choice of precision is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paraexport.errors import InputError
from paraexport.model.scores import answers, classes_of
from paraexport.model.spec import LOGITS, Scores

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Judge:
    """What is lost against PyTorch: percentage points of top-1, or without labels % of images answered otherwise."""

    reference: Array
    """PyTorch's logits [N, classes]."""
    labels: NDArray[np.int64] | None
    scores: Scores = LOGITS

    def lost(self, logits: Array) -> float:
        """Of logits [N, classes] for the same images.

        Raises:
            InputError: the outputs are values, of which none is right or wrong.
        """
        if self.scores.kind == "values":
            raise InputError(
                "the outputs are values, not classes: no answer can be lost",
                where="--max-drop",
                remedy="give --limit parity=VALUE instead",
            )
        if self.labels is None:
            return 100 * float((answers(self.reference, self.scores) != answers(logits, self.scores)).mean())
        best, answer = classes_of(self.reference, self.scores), classes_of(logits, self.scores)
        return 100 * float((best == self.labels).mean() - (answer == self.labels).mean())


@dataclass(frozen=True, eq=False)
class Data:
    """Images [N, C, H, W] in batches, and how answers to them are judged."""

    batches: Sequence[Array]
    judge: Judge
