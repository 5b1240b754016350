"""Measures how much accuracy lower precision loses."""

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
    """Compares logits with PyTorch's, and with labels if there are any."""

    reference: Array
    """PyTorch's logits [N, classes]."""
    labels: NDArray[np.int64] | None
    """The class of each image [N]; None without labels."""
    scores: Scores = LOGITS
    """What the logits mean."""

    def drop_pp(self, logits: Array) -> float:
        """Lost top-1 accuracy in percentage points; without labels, % of images with another answer.

        `logits` [N, classes] are for the images of `reference`.

        Raises:
            InputError: the model outputs values, so no answer is right or wrong.
        """
        if self.scores.kind == "values":
            raise InputError(
                "the model outputs values, not classes, so it has no top-1 accuracy to lose",
                where="--max-drop",
                remedy="give --limit parity=VALUE instead",
            )
        if self.labels is None:
            return 100 * float((answers(self.reference, self.scores) != answers(logits, self.scores)).mean())
        expected, got = classes_of(self.reference, self.scores), classes_of(logits, self.scores)
        return 100 * float((expected == self.labels).mean() - (got == self.labels).mean())


@dataclass(frozen=True, eq=False)
class JudgedImages:
    """Images [N, C, H, W] in batches, and the judge of the answers to them."""

    batches: Sequence[Array]
    judge: Judge
