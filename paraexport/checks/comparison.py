"""Compares the outputs of an engine with PyTorch's on the same images.

`verdicts` turns the result into checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from paraexport.errors import DataError
from paraexport.model.scores import answers, as_logits, classes_of, largest_difference
from paraexport.model.spec import LOGITS, Scores

Logits = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""float32 [N, C, H, W] -> float32 [N, classes]."""


Pair = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Images [N, C, H, W] and PyTorch's logits [N, classes] for them."""
LOG_HALF = math.log(0.5)


@dataclass(frozen=True)
class Comparison:
    """The result of one pass over the images. Its counts are numbers of images."""

    images: int
    largest_difference: float
    """The largest difference of two outputs, on the scale on which the models differ the most."""
    largest_logit: float
    """The largest output, on the same scale."""
    disagreements: float | None
    """Images with a different answer; None for values.

    If each class has its own probability, an image counts with the share of its classes that differ.
    """
    labelled: int
    reference_correct: int
    engine_correct: int
    cosine: float
    """The cosine similarity of all logits, taken as one vector; NaN if a logit is not finite."""
    outputs: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    """The outputs of the engine for all images, [N, classes]; None if only a stand-in ran."""

    @property
    def relative_difference(self) -> float:
        """max |Δ logit| / max |logit|; NaN if an output of either side is not finite."""
        return self.largest_difference / self.largest_logit if self.largest_logit else self.largest_difference


def compare(
    engine: Logits,
    pairs: Iterable[Pair],
    labels: NDArray[np.int64] | None,
    *,
    tie: float,
    scores: Scores = LOGITS,
) -> Comparison:
    """Run `engine` on every batch and compare its outputs with PyTorch's.

    Ties are not counted as disagreements. An image is a tie if its two best reference logits differ by at most
    `tie` · max |logit|. If each class has its own probability, a class is a tie if its logit is that close to 0.
    Probabilities are compared twice: as they are, and as logits.

    Args:
        labels: int64 [N], one for each image of `pairs`.
        tie: the relative difference up to which the format cannot tell two logits apart.

    Raises:
        DataError: there is no image, or the engine answers with another shape.
    """
    answered = []
    for images, expected in pairs:
        got = engine(images)
        if expected.shape != got.shape:
            raise DataError(
                "PyTorch and the engine answer with different shapes", expected=expected.shape, got=got.shape
            )
        answered.append((expected, got))
    if not sum(len(expected) for expected, _ in answered):
        raise DataError("no image to check with", expected="at least one", got=0, remedy="give --data or --calib")
    reference, output = (np.concatenate(side).astype(np.float64) for side in zip(*answered, strict=True))
    reference_logits, output_logits = as_logits(reference, scores), as_logits(output, scores)
    difference, largest = largest_difference(reference, output, scores)
    labelled = labels is not None and scores.kind != "values"
    return Comparison(
        images=len(reference),
        largest_difference=difference,
        largest_logit=largest,
        disagreements=None if scores.kind == "values" else disagreements(reference, output, scores, tie),
        labelled=len(reference) if labelled else 0,
        reference_correct=int((classes_of(reference, scores) == labels).sum()) if labelled else 0,
        engine_correct=int((classes_of(output, scores) == labels).sum()) if labelled else 0,
        cosine=cosine(reference_logits, output_logits),
        outputs=np.concatenate([got for _, got in answered]),
    )


def disagreements(reference: NDArray[np.float64], output: NDArray[np.float64], scores: Scores, tie: float) -> float:
    """Count the images with a different answer. Ties do not count; outputs that are not finite always count."""
    logits = as_logits(reference, scores)
    margin = tie * float(np.abs(logits).max())
    broken = ~np.isfinite(as_logits(output, scores)).all(1, keepdims=True)
    differs = answers(reference, scores) != answers(output, scores)
    if scores.kind == "independent":
        tied = np.abs(logits) <= margin if scores.activation != "exp" else np.abs(logits - LOG_HALF) <= margin
        return float((differs & ~tied | broken).mean(1).sum())
    chosen = np.take_along_axis(logits, answers(output, scores), 1)
    tied = logits.max(1, keepdims=True) - chosen <= margin
    return int((differs & ~tied | broken).sum())


def cosine(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The cosine similarity of two vectors. A zero vector has no direction: 1 if both are zero, 0 if one of them is."""
    if not first.any() and not second.any():
        return 1.0
    with np.errstate(invalid="ignore", over="ignore"):
        return float((first * second).sum() / ((np.linalg.norm(first) * np.linalg.norm(second)) or 1.0))
