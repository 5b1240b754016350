"""Turns outputs of a model [N, outputs] into scores and answers, and compares the outputs of two models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paraexport.model.spec import LOGITS, Scores

NEGATIVE = -1
"""The index of the label for "no" of a model with one output. No output stands for it."""
Outputs = NDArray[np.floating]
Reals = NDArray[np.float64]
PRESENT = 0.5
"""A class with its own probability is present from this value on."""
SMALLEST = 1e-6
"""Probabilities below this count as equal when two models are compared."""
NEAR_CERTAIN = 1e-2
"""Own probabilities nearer to 0 or 1 are clipped to this distance: float32 keeps too few digits of their logit."""
LOWEST_LOGARITHM = -30.0
"""Log-probabilities below this count as equal when two models are compared."""


def recorded(scores: Scores, outputs: int) -> Scores:
    """The scores of a bundle. Older bundles do not record them; if they have one output, it means a sigmoid."""
    if outputs == 1 and scores == LOGITS:
        return Scores("sigmoid", "independent", "assumed for one output")
    return scores


def scores_of(outputs: Outputs, scores: Scores) -> Reals:
    """The scores in float64, with the shape of `outputs`."""
    values = outputs.astype(np.float64)
    match scores.activation:
        case "softmax":
            powers = np.exp(values - values.max(-1, keepdims=True))
            return np.asarray(powers / powers.sum(-1, keepdims=True))
        case "sigmoid":
            powers = np.exp(-np.abs(values))  # at most 1, so it cannot overflow
            return np.where(values >= 0, 1 / (1 + powers), powers / (1 + powers))
        case "exp":
            return np.asarray(np.exp(values))
        case "none":
            return values


def usable(outputs: Outputs, scores: Scores) -> bool:
    """Whether every output has a score. If outputs are logarithms, -inf has one too: it is the logarithm of 0."""
    finite = np.isfinite(outputs)
    return bool((finite | np.isneginf(outputs)).all() if scores.activation == "exp" else finite.all())


def answers(outputs: Outputs, scores: Scores) -> NDArray[np.int64]:
    """The decisions of a model: the number of the class, [N, 1]; or 1 for each class that is present, [N, outputs].

    Raises:
        ValueError: the outputs are measured values, which are no decisions.
    """
    match scores.kind:
        case "exclusive" | "ranking":
            return outputs.argmax(-1)[:, None].astype(np.int64)
        case "independent":
            threshold = {"sigmoid": 0.0, "exp": math.log(PRESENT)}.get(scores.activation, PRESENT)
            return (outputs >= threshold).astype(np.int64)
        case "values":
            raise ValueError("the outputs are measured values; there is no class to choose")


def classes_of(outputs: Outputs, scores: Scores) -> NDArray[np.int64]:
    """The number of one class for each image, [N], as in labels; 0 or 1 for a model with one output."""
    if scores.kind == "independent" and outputs.shape[1] == 1:
        return answers(outputs, scores)[:, 0]
    return outputs.argmax(-1).astype(np.int64)


def cross_entropy(logits: Outputs, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The negative logarithm of the probability that softmax of `logits` [N, classes] gives to the label, [N]."""
    values = logits.astype(np.float64)
    shifted = values - values.max(1, keepdims=True)
    chosen = np.take_along_axis(shifted, labels[:, None], 1)[:, 0]
    return np.asarray(np.log(np.exp(shifted).sum(1)) - chosen)


def class_names(labels: Sequence[str], scores: Scores) -> tuple[str, ...]:
    """The names of the classes, in the order that labels of images use. A model with one output has two classes."""
    if len(labels) == 1 and scores.kind != "values":
        return scores.negative or ("0" if labels[0] == "1" else ""), labels[0]
    return tuple(labels)


@dataclass(frozen=True)
class Scored:
    """One label with its score."""

    label: str
    index: int
    """The index of the output, or `NEGATIVE`."""
    score: float


def ranked(outputs: Outputs, labels: Sequence[str], scores: Scores) -> list[Scored]:
    """The outputs of one image [outputs] as scores, the best first. For equal scores the lower class comes first.

    Measured values have no best one, and stay in their order. The score of the label for "no" is one minus that for
    "yes".
    """
    numbers = scores_of(outputs[None], scores)[0]
    order = range(len(outputs)) if scores.kind == "values" else np.argsort(-outputs, kind="stable")
    best = [Scored(labels[index], int(index), float(numbers[index])) for index in order]
    if scores.negative and len(best) == 1:
        best.append(Scored(scores.negative, NEGATIVE, 1 - best[0].score))
        best.sort(key=lambda scored: -scored.score)
    return best


def text_of(score: float, scores: Scores) -> str:
    """`93.1 %`, or a plain number if the score is not a probability."""
    return f"{100 * score:.1f} %" if scores.probabilities else f"{score:.4g}"


def as_logits(outputs: Outputs, scores: Scores) -> Reals:
    """Outputs on the scale of logits, for comparisons.

    Softmax and sigmoid compress: a probability near 0 or 1 hides a large error of its logit. So probabilities are
    compared as log p, or as log(p / (1 − p)) if each class has its own. NaN stays NaN. Numbers outside of 0..1 are
    clipped, which hides them; so compare the outputs themselves as well.
    """
    values = outputs.astype(np.float64)
    if scores.activation == "exp":
        return np.maximum(values, LOWEST_LOGARITHM)
    if scores.activation != "none" or not scores.probabilities:
        return values
    if scores.kind == "exclusive":
        return np.asarray(np.log(np.maximum(values, SMALLEST)))
    bounded = np.clip(values, NEAR_CERTAIN, 1 - NEAR_CERTAIN)
    return np.asarray(np.log(bounded / (1 - bounded)))


def largest_difference(expected: Outputs, got: Outputs, scores: Scores) -> tuple[float, float]:
    """(max |Δ|, max |expected|) of outputs [N, outputs], on the scale of logits or as they are.

    The scale with the larger relative difference is used. NaN counts as the largest difference.
    """
    pairs = [(as_logits(expected, scores), as_logits(got, scores))]
    if scores.activation == "none":
        pairs.append((expected.astype(np.float64), got.astype(np.float64)))
    with np.errstate(invalid="ignore"):
        differences = [
            (float(np.abs(other - reference).max()), float(np.abs(reference).max())) for reference, other in pairs
        ]
    ratios = [difference / (largest or 1.0) for difference, largest in differences]
    return differences[ratios.index(max(ratios, key=lambda ratio: math.inf if math.isnan(ratio) else ratio))]


def describe(scores: Scores) -> str:
    """The scores in a few words: `sigmoid of each output: a probability for each class`."""
    applied = {
        "softmax": "softmax of the outputs",
        "sigmoid": "sigmoid of each output",
        "exp": "exp of each output",
        "none": "the outputs themselves",
    }[scores.activation]
    meaning = {
        "exclusive": "probabilities that sum to 1",
        "independent": "a probability for each class",
        "ranking": "no probabilities; the largest is the answer",
        "values": "measured values, no classes",
    }[scores.kind]
    return f"{applied}: {meaning}"
