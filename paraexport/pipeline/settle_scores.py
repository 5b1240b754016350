"""What the outputs of a model are: said in words, read off the end of its graph, seen on its answers, or assumed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paraexport.errors import SpecError
from paraexport.findings.assumptions import Assumption
from paraexport.model.spec import ScoreKind, Scores, ScoreWord

if TYPE_CHECKING:
    from paraexport.trace.endings import Ending

FIELD, OPTION = "scores", "--spec"
CHOICES = "softmax, sigmoid, exp, none or regression"
SUM_TOLERANCE, BOUND_TOLERANCE = 1e-3, 1e-6
"""Rounding of a row of probabilities, also in half precision; and of one probability."""

Settled = tuple[Scores, tuple[Assumption, ...]]


def settle(word: ScoreWord | None, said_by: str, ending: Ending, outputs: NDArray[np.float32]) -> Settled:
    """What the outputs are, and what had to be assumed for that.

    Args:
        word: what an option or a config says, or None.
        said_by: who says it, such as `--spec`.
        ending: how the graph ends.
        outputs: PyTorch's answers to the images of the build, [N, outputs].

    Raises:
        SpecError: the word cannot be true of these outputs.
    """
    squashed = already_scores(ending, outputs)
    if word is not None:
        return as_said(word, said_by, squashed, outputs)
    if squashed is not None and squashed.kind == "ranking":
        return squashed, (Assumption(FIELD, "none", f"{squashed.reason}, which are no probabilities and no logits"),)
    if squashed is not None:
        return squashed, of_constants(outputs)
    if outputs.shape[1] == 1:
        reason = (
            "the model has one output, read as the logit of a yes-or-no answer; a measured value is scores=regression"
        )
        return Scores("sigmoid", "independent", "assumed for one output"), (Assumption(FIELD, "sigmoid", reason),)
    scores = Scores(reason="several outputs that are no probabilities: logits of classes")
    if math.isinf(ending.low) and math.isinf(ending.high):
        return scores, ()
    reason = f"the model ends in {ending.operator}, and nothing says what its outputs are: {CHOICES}"
    return scores, (Assumption(FIELD, "softmax", reason),)


def already_scores(ending: Ending, outputs: NDArray[np.float32]) -> Scores | None:
    """What outputs are that are scores already, or their logarithms; None for all others, such as logits."""
    values, several = outputs.astype(np.float64), outputs.shape[1] > 1
    ends = f"the model ends in {ending.operator}"
    if several and values.min() >= -BOUND_TOLERANCE and sum_to_one(values):
        return Scores("none", "exclusive", f"{ends}: its outputs are probabilities that sum to 1")
    if several and values.max() <= BOUND_TOLERANCE and sum_to_one(np.exp(values)):
        return Scores("exp", "exclusive", f"{ends}: its outputs are logarithms of probabilities that sum to 1")
    if ending.logarithm:
        return Scores("exp", "independent", f"{ends}: its outputs are logarithms of probabilities")
    low, high = ending.low, ending.high
    if low >= -BOUND_TOLERANCE and high <= 1 + BOUND_TOLERANCE:
        return Scores("none", "independent", f"{ends}: each output is a probability")
    if several and low >= -BOUND_TOLERANCE and math.isfinite(high):
        return Scores("none", "ranking", f"{ends}: its outputs lie between {low:g} and {high:g}")
    return None


def sum_to_one(rows: NDArray[np.float64]) -> bool:
    return bool(np.abs(rows.sum(1) - 1).max() <= SUM_TOLERANCE)


def as_said(word: ScoreWord, said_by: str, squashed: Scores | None, outputs: NDArray[np.float32]) -> Settled:
    reason = f"given by {said_by}"
    classes = outputs.shape[1]
    if word == "regression":
        return Scores("none", "values", reason), ()
    if word == "none":
        if squashed is not None and squashed.activation == "none":
            return Scores("none", squashed.kind, f"{reason}; {squashed.reason}"), of_constants(outputs)
        return Scores("none", "ranking" if classes > 1 else "values", reason), ()
    if word == "exp":
        if outputs.max() > BOUND_TOLERANCE:
            raise SpecError(
                "the outputs are no logarithms of probabilities",
                where=f"{FIELD}={word}, {reason}",
                expected="at most 0",
                got=f"up to {outputs.max():.3g}",
                remedy=f"leave it out, or give another {FIELD}",
            )
        log_sum = classes > 1 and sum_to_one(np.exp(outputs.astype(np.float64)))
        return Scores("exp", "exclusive" if log_sum else "independent", reason), ()
    if word == "softmax" and classes == 1:
        raise SpecError(
            "softmax of one output is 1 for every image",
            where=f"{FIELD}={word}, {reason}",
            expected="sigmoid for one output",
            remedy=f"give --spec {FIELD}=sigmoid, or {FIELD}=regression where it is a measured value",
        )
    if squashed is not None and said_by != OPTION:
        # A config says what its own library does with logits; this module has done so already.
        return squashed, of_constants(outputs)
    kind: ScoreKind = "exclusive" if word == "softmax" else "independent"
    twice: tuple[Assumption, ...] = ()
    if squashed is not None and (word, squashed.activation) != ("softmax", "exp"):  # softmax of log p is p
        twice = (Assumption(FIELD, word, f"{reason} and applied, although {squashed.reason}"),)
    return Scores(word, kind, reason), twice


def of_constants(outputs: NDArray[np.float32]) -> tuple[Assumption, ...]:
    """Softmax of one class, which some models end in."""
    if outputs.shape[1] > 1 or len(outputs) < 2 or not np.abs(outputs - 1).max() <= BOUND_TOLERANCE:
        return ()
    reason = "the one output is 1 for every image, as softmax of one class is: the model says nothing"
    return (Assumption(FIELD, "none", reason),)
