"""Decides what the outputs of a model mean: from options and configs, the end of its graph, and its outputs.

If none of them settles it, the most common meaning is assumed and listed.
"""

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
"""Tolerances for the sum of a row of probabilities, also in half precision, and for a single probability."""

Settled = tuple[Scores, tuple[Assumption, ...]]


def settle(word: ScoreWord | None, source: str, ending: Ending, outputs: NDArray[np.float32]) -> Settled:
    """Decide what the outputs mean, and list the assumptions.

    Args:
        word: the value in an option or a config, or None.
        source: where the word comes from, such as `--spec`.
        ending: the last operators of the graph.
        outputs: PyTorch's outputs for the images of the build, [N, outputs].

    Raises:
        SpecError: the word cannot be right for these outputs.
    """
    computed = scores_in_model(ending, outputs)
    if word is not None:
        return with_word(word, source, computed, outputs)
    if computed is not None and computed.kind == "ranking":
        reason = f"{computed.reason}, so they are neither probabilities nor logits"
        return computed, (Assumption(FIELD, "none", reason),)
    if computed is not None:
        return computed, constant_output(outputs)
    if outputs.shape[1] == 1:
        reason = (
            "the model has one output, which is read as the logit of a yes-or-no answer; if it is a measured value, "
            "give --spec scores=regression"
        )
        return Scores("sigmoid", "independent", "assumed for one output"), (Assumption(FIELD, "sigmoid", reason),)
    scores = Scores(reason="the outputs are not probabilities, so they are read as logits of classes")
    if math.isinf(ending.low) and math.isinf(ending.high):
        return scores, ()
    reason = f"the model ends in {ending.operator}, and no config gives the meaning of its outputs: {CHOICES}"
    return scores, (Assumption(FIELD, "softmax", reason),)


def scores_in_model(ending: Ending, outputs: NDArray[np.float32]) -> Scores | None:
    """Describe outputs that are already scores or logarithms of scores. Return None for others, such as logits."""
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


def with_word(word: ScoreWord, source: str, computed: Scores | None, outputs: NDArray[np.float32]) -> Settled:
    """Settle the meaning with a word from an option or config. `computed` describes scores that the model computes."""
    reason = f"given by {source}"
    classes = outputs.shape[1]
    if word == "regression":
        return Scores("none", "values", reason), ()
    if word == "none":
        if computed is not None and computed.activation == "none":
            return Scores("none", computed.kind, f"{reason}; {computed.reason}"), constant_output(outputs)
        return Scores("none", "ranking" if classes > 1 else "values", reason), ()
    if word == "exp":
        if outputs.max() > BOUND_TOLERANCE:
            raise SpecError(
                "the outputs are not logarithms of probabilities",
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
            remedy=f"give --spec {FIELD}=sigmoid, or --spec {FIELD}=regression if it is a measured value",
        )
    if computed is not None and source != OPTION:
        # The config describes what its library does with logits. This module already does it.
        return computed, constant_output(outputs)
    kind: ScoreKind = "exclusive" if word == "softmax" else "independent"
    twice: tuple[Assumption, ...] = ()
    if computed is not None and (word, computed.activation) != ("softmax", "exp"):  # softmax of log p is p
        twice = (Assumption(FIELD, word, f"{reason} and applied, although {computed.reason}"),)
    return Scores(word, kind, reason), twice


def constant_output(outputs: NDArray[np.float32]) -> tuple[Assumption, ...]:
    """Note an output that is always 1: some models end in a softmax over one class."""
    if outputs.shape[1] > 1 or len(outputs) < 2 or not np.abs(outputs - 1).max() <= BOUND_TOLERANCE:
        return ()
    reason = "the only output is 1 for every image, like a softmax over one class, so it carries no information"
    return (Assumption(FIELD, "none", reason),)
