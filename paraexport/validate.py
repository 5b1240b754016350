"""An engine against PyTorch, on images: every check with its value, its limit and the reason for the limit.

A check passes when its value is at most its limit; a NaN is never at most anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paraexport.errors import CheckFailed, DataError, InputError
from paraexport.faults import Bisection
from paraexport.limits import LIMITS, TIES, Limit
from paraexport.records import Accuracy, Check

Logits = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""float32 [N, C, H, W] -> float32 [N, classes]."""


Pair = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Images [N, C, H, W] and PyTorch's logits [N, classes] for them."""
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


@dataclass(frozen=True)
class Lowered:
    """Products that are to run in int8: how many, their multiply-adds, and those of the ones that do."""

    products: int
    meant: int
    done: int | str
    """Or why nobody can tell."""


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
    largest_logit: float
    disagreements: int
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
    everything = compare(engine, evidence.pairs, evidence.labels, tie=tie)
    sizes = sorted({*BATCH_SIZES, max_batch, *evidence.batches})
    resized = [
        (
            np.resize(evidence.images, (size, *evidence.images.shape[1:])),
            np.resize(evidence.logits, (size, evidence.logits.shape[1])),
        )
        for size in sizes
    ]
    batches = compare(engine, resized, None, tie=tie)
    return Outcome(checks(precision, everything, batches, evidence, moved), everything)


def compare(engine: Logits, pairs: Iterable[Pair], labels: NDArray[np.int64] | None, *, tie: float) -> Comparison:
    """Run `engine` on every batch; an image whose two best reference logits are within `tie` · max |logit| is a tie.

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
    scale = float(np.abs(wanted).max())
    best, answer = wanted.argmax(1), found.argmax(1)
    margin = wanted.max(1) - np.take_along_axis(wanted, answer[:, None], 1)[:, 0]
    return Comparison(
        images=len(wanted),
        largest_difference=float(np.abs(found - wanted).max()),
        largest_logit=scale,
        disagreements=int(((best != answer) & ~(margin <= tie * scale) | ~np.isfinite(found).all(1)).sum()),
        labelled=0 if labels is None else len(labels),
        reference_correct=0 if labels is None else int((best == labels).sum()),
        engine_correct=0 if labels is None else int((answer == labels).sum()),
        cosine=cosine(wanted, found),
    )


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
    values = {
        "parity": (comparison.relative_difference, comparison.images),
        "batches": (batches.relative_difference, batches.images),
        "rounding": (rounding, comparison.images if rounding is not None else 0),
        "cosine": (1 - comparison.cosine, comparison.images),
        "disagreement": (100 * comparison.disagreements / comparison.images, comparison.images),
        "accuracy_drop": (lost, labelled),
        "not_int8": (missed, lowered.products if lowered and missed is not None else 0),
    }
    lacks = {**NEEDS, "not_int8": str(done)}
    return tuple(
        check(name, limit, *values[name], moved, lacks.get(name, "")) for name, limit in LIMITS[precision].items()
    )


def check(  # noqa: PLR0917
    name: str, limit: Limit, value: float | None, samples: int, moved: Mapping[str, float], lacks: str
) -> Check:
    bound, reason = limit.value, limit.reason
    if name in moved:
        bound, reason = moved[name], f"moved from {limit.value:g}"
    if value is None:
        return Check(name, None, bound, limit.unit, samples, None, f"not run: {lacks}")
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
