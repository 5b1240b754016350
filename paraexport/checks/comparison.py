"""An engine against PyTorch, on images: every check with its value, its limit and the reason for the limit.

A check passes when its value is at most its limit; a NaN is never at most anything.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paraexport.checks.limits import LIMITS, OTHER_SIDE, TIES, Limit
from paraexport.errors import CheckFailed, DataError, InputError
from paraexport.findings.bisection import Bisection
from paraexport.findings.checks import Accuracy, Check
from paraexport.model.scores import answers, as_logits, classes_of, largest_difference
from paraexport.model.spec import LOGITS, Scores

Logits = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""float32 [N, C, H, W] -> float32 [N, classes]."""


Pair = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Images [N, C, H, W] and PyTorch's logits [N, classes] for them."""
SHARES, EVERYTHING = ("disagreement", "accuracy_drop"), 100.0
"""Checks in percent; with such a limit they could not fail, and so they do not pass either."""
HALF = math.log(0.5)
BATCH_SIZES = (1, 2, 7)
"""Tried with every engine, beside the largest batch that it takes."""


@dataclass(frozen=True)
class Evidence:
    """What an engine is checked with."""

    pairs: Iterable[Pair]
    """All images, batch by batch."""
    labels: NDArray[np.int64] | None
    """int64 [N], one for each image of `pairs`."""
    images: NDArray[np.float32]
    """The golden images, [n, C, H, W]."""
    logits: NDArray[np.float32]
    """PyTorch's for the golden images, [n, classes]."""

    lowered: Lowered | None = None
    """In int8, what the runtime made of it."""
    rounding: float | None = None
    """In half, max |Δ logit| / max |logit| with every rounding carried out."""
    batches: tuple[int, ...] = ()
    """Sizes to try beside the usual ones."""
    scores: Scores = LOGITS
    """What the outputs are, which decides what an answer is."""


@dataclass(frozen=True)
class Lowered:
    """Products that are to run in int8: how many, their multiply-adds, and those of the ones that do."""

    products: int
    meant: int
    done: int | str
    """Or why nobody can tell."""


NO_CLASSES = "the outputs are values, not classes"
NEEDS = {
    "accuracy_drop": "no labelled images; give --data",
    "not_int8": "no product is meant for int8",
    "rounding": "known from the build alone",
}
"""What a check that did not run lacks."""


@dataclass(frozen=True)
class Comparison:
    """What one pass over the images found; the counts are images."""

    images: int
    largest_difference: float
    """Of two outputs, on the scale on which the models differ the most."""
    largest_logit: float
    """On the same scale."""
    disagreements: float | None
    """Images with another answer; with a probability for each class, the share of its classes. None for values."""
    labelled: int
    reference_correct: int
    engine_correct: int
    cosine: float
    """Of all logits as one vector; NaN where one was not finite."""

    @property
    def relative_difference(self) -> float:
        """max |Δ logit| / max |logit|; NaN where either side was not finite."""
        return self.largest_difference / self.largest_logit if self.largest_logit else self.largest_difference


@dataclass(frozen=True)
class Outcome:
    checks: tuple[Check, ...]
    comparison: Comparison
    """On all images."""

    @property
    def accuracy(self) -> Accuracy | None:
        """None without labels."""
        found = self.comparison
        if not found.labelled:
            return None
        return Accuracy(found.labelled, found.reference_correct, found.engine_correct)


def run_checks(
    precision: str, engine: Logits, evidence: Evidence, *, max_batch: int, moved: Mapping[str, float] | None = None
) -> Outcome:
    """Every check of `precision`: on all images, and on the golden ones in batches of several sizes."""
    tie = TIES[precision]
    everything = compare(engine, evidence.pairs, evidence.labels, tie=tie, scores=evidence.scores)
    sizes = sorted({*BATCH_SIZES, max_batch, *evidence.batches})
    resized = [
        (
            np.resize(evidence.images, (size, *evidence.images.shape[1:])),
            np.resize(evidence.logits, (size, evidence.logits.shape[1])),
        )
        for size in sizes
    ]
    batches = compare(engine, resized, None, tie=tie, scores=evidence.scores)
    return Outcome(checks(precision, everything, batches, evidence, moved), everything)


def compare(
    engine: Logits,
    pairs: Iterable[Pair],
    labels: NDArray[np.int64] | None,
    *,
    tie: float,
    scores: Scores = LOGITS,
) -> Comparison:
    """Run `engine` on every batch.

    An image whose two best reference logits are within `tie` · max |logit| is a tie. So is a class with a probability
    of its own whose logit is as near to 0. Probabilities are compared twice: as they are, and as logits.

    Raises:
        DataError: there was no image, or the engine answers with another shape.
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
    wanted, found = (np.concatenate(side).astype(np.float64) for side in zip(*answered, strict=True))
    reference, answer = as_logits(wanted, scores), as_logits(found, scores)
    difference, largest = largest_difference(wanted, found, scores)
    labelled = labels is not None and scores.kind != "values"
    return Comparison(
        images=len(wanted),
        largest_difference=difference,
        largest_logit=largest,
        disagreements=None if scores.kind == "values" else disagreements(wanted, found, reference, answer, scores, tie),
        labelled=len(wanted) if labelled else 0,
        reference_correct=int((classes_of(wanted, scores) == labels).sum()) if labelled else 0,
        engine_correct=int((classes_of(found, scores) == labels).sum()) if labelled else 0,
        cosine=cosine(reference, answer),
    )


def disagreements(  # noqa: PLR0917
    wanted: NDArray[np.float64],
    found: NDArray[np.float64],
    reference: NDArray[np.float64],
    answer: NDArray[np.float64],
    scores: Scores,
    tie: float,
) -> float:
    """Images with another answer; ties are left out, and what is not finite always counts."""
    margin = tie * float(np.abs(reference).max())
    broken = ~np.isfinite(answer).all(1, keepdims=True)
    other = answers(wanted, scores) != answers(found, scores)
    if scores.kind == "independent":
        tied = np.abs(reference) <= margin if scores.activation != "exp" else np.abs(reference - HALF) <= margin
        return float((other & ~tied | broken).mean(1).sum())
    chosen = np.take_along_axis(reference, answers(found, scores), 1)
    tied = reference.max(1, keepdims=True) - chosen <= margin
    return int((other & ~tied | broken).sum())


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Of two vectors; 1 where both are zero, which has no direction, and 0 where one of them is."""
    if not one.any() and not other.any():
        return 1.0
    with np.errstate(invalid="ignore", over="ignore"):
        return float((one * other).sum() / ((np.linalg.norm(one) * np.linalg.norm(other)) or 1.0))


def checks(
    precision: str,
    comparison: Comparison,
    batches: Comparison,
    evidence: Evidence,
    moved: Mapping[str, float] | None = None,
) -> tuple[Check, ...]:
    """Every check of `precision`, from the comparison on all images and the one on several batch sizes.

    Raises:
        InputError: `moved` names no check.
    """
    moved = moved or {}
    if unknown := moved.keys() - LIMITS[precision].keys():
        raise InputError(
            "unknown check",
            where="--limit",
            expected=f"one of {', '.join(LIMITS[precision])}",
            got=", ".join(sorted(unknown)),
        )
    labelled = comparison.labelled
    lost = 100 * (comparison.reference_correct - comparison.engine_correct) / labelled if labelled else None
    lowered, rounding = evidence.lowered, evidence.rounding
    done = lowered.done if lowered else NEEDS["not_int8"]
    missed = None if lowered is None or isinstance(done, str) else 100 * (lowered.meant - done) / lowered.meant
    differing = None if comparison.disagreements is None else 100 * comparison.disagreements / comparison.images
    values = {
        "parity": (comparison.relative_difference, comparison.images),
        "batches": (batches.relative_difference, batches.images),
        "rounding": (rounding, comparison.images if rounding is not None else 0),
        "cosine": (1 - comparison.cosine, comparison.images),
        "disagreement": (differing, comparison.images if differing is not None else 0),
        "accuracy_drop": (lost, labelled),
        "not_int8": (missed, lowered.products if lowered and missed is not None else 0),
    }
    lacks = {**NEEDS, "not_int8": str(done), "disagreement": NO_CLASSES}
    if evidence.scores.kind == "values":
        lacks["accuracy_drop"] = NO_CLASSES
    limits = {**LIMITS[precision]}
    if evidence.scores.kind == "independent" and "disagreement" in limits:
        limits["disagreement"] = dataclasses.replace(limits["disagreement"], unit=OTHER_SIDE)
    return tuple(check(name, limit, *values[name], moved, lacks.get(name, "")) for name, limit in limits.items())


def check(  # noqa: PLR0917
    name: str, limit: Limit, value: float | None, samples: int, moved: Mapping[str, float], lacks: str
) -> Check:
    bound, reason = limit.value, limit.reason
    if name in moved:
        bound, reason = moved[name], f"moved from {limit.value:g}"
    if value is None:
        return Check(name, None, bound, limit.unit, samples, None, f"not run: {lacks}")
    if name in SHARES and bound >= EVERYTHING and value <= EVERYTHING:
        return Check(name, value, bound, limit.unit, samples, None, f"not limited: {bound:g} allows everything")
    finite = value if math.isfinite(value) else None
    passed = value <= bound
    return Check(
        name, finite, bound, limit.unit, samples, passed, reason if finite is not None else f"not finite; {reason}"
    )


def moved_in(done: Iterable[Check], precision: str) -> dict[str, float]:
    """The limits that were moved when these checks were made, by `--limit` or `--max-drop`."""
    usual = LIMITS[precision]
    return {one.name: one.limit for one in done if one.name in usual and one.limit != usual[one.name].value}


def require_passed(done: Iterable[Check], where: Callable[[], str | Bisection]) -> None:
    """Raise for the first failed check.

    Raises:
        CheckFailed: it names the check, by how much it was missed, and where the first difference appears; where that
            is in the engine alone, `bisection` has all that was found.
    """
    done = tuple(done)
    failed = [one for one in done if one.passed is False]
    if not failed:
        return
    facts = "; ".join(f"{one.name} is {'not finite' if one.value is None else f'{one.value:.3g}'}" for one in failed)
    limits = "; ".join(f"{one.name} at most {one.limit:g} {one.unit}" for one in failed)
    found = where()
    error = CheckFailed(f"check failed: {facts}", expected=limits, remedy=str(found))
    error.checks = done
    error.bisection = found if isinstance(found, Bisection) else None
    raise error
