"""Turns comparisons of an engine with PyTorch into checks, each with its value, its limit and a reason.

A check passes if its value is at most its limit. NaN never passes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paraexport.checks.comparison import Comparison, Logits, Pair, compare
from paraexport.checks.limits import LIMITS, OTHER_SIDE, TIES, Limit
from paraexport.errors import CheckFailed, InputError
from paraexport.findings.bisection import Bisection
from paraexport.findings.checks import Accuracy, Check
from paraexport.model.spec import LOGITS, Scores

SHARES, EVERYTHING = ("disagreement", "accuracy_drop"), 100.0
"""Checks in percent. With the limit `EVERYTHING` they cannot fail, so they do not count as passed either."""
BATCH_SIZES = (1, 2, 7)
"""Batch sizes to try with every engine, besides its largest batch."""
NO_CLASSES = "the outputs are values, not classes"
NEEDS = {
    "accuracy_drop": "no labelled images; give --data",
    "not_int8": "no product is meant for int8",
    "rounding": "only a build measures it",
}
"""Why a check did not run."""


@dataclass(frozen=True)
class Int8Coverage:
    """The products that are meant to run in int8, and how many of their multiply-adds do."""

    products: int
    """The number of products that are meant to run in int8."""
    planned: int
    """Their multiply-adds."""
    actual: int | str
    """The multiply-adds that run in int8, or the reason why this is not known."""


@dataclass(frozen=True)
class Evidence:
    """The images and reference logits to check an engine with."""

    pairs: Iterable[Pair]
    """All images with PyTorch's logits, batch by batch."""
    labels: NDArray[np.int64] | None
    """int64 [N], one for each image of `pairs`."""
    images: NDArray[np.float32]
    """The golden images, [n, C, H, W]."""
    logits: NDArray[np.float32]
    """PyTorch's logits for the golden images, [n, classes]."""

    int8: Int8Coverage | None = None
    """Only for int8."""
    rounding: float | None = None
    """Only for fp16 and bf16: max |Δ logit| / max |logit| with every rounding carried out."""
    batches: tuple[int, ...] = ()
    """Batch sizes to try besides the usual ones."""
    scores: Scores = LOGITS
    """The meaning of the outputs. It decides which answer an output gives."""


@dataclass(frozen=True)
class Outcome:
    """All checks of an engine, and the comparison on all images."""

    checks: tuple[Check, ...]
    comparison: Comparison
    latency_ms: float | None = None
    """A first look at the latency of one image; None if it was not measured."""

    @property
    def accuracy(self) -> Accuracy | None:
        """None without labels."""
        comparison = self.comparison
        if not comparison.labelled:
            return None
        return Accuracy(comparison.labelled, comparison.reference_correct, comparison.engine_correct)


def run_checks(
    precision: str, engine: Logits, evidence: Evidence, *, max_batch: int, moved: Mapping[str, float] | None = None
) -> Outcome:
    """Run every check of `precision`: on all images, and on the golden images in batches of several sizes.

    Args:
        moved: limits that replace the usual ones, by the name of the check.

    Raises:
        DataError: there is no image, or the engine answers with another shape.
        InputError: `moved` names an unknown check.
    """
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
    return Outcome(make_checks(precision, everything, batches, evidence, moved), everything)


def make_checks(
    precision: str,
    comparison: Comparison,
    batches: Comparison,
    evidence: Evidence,
    moved: Mapping[str, float] | None = None,
) -> tuple[Check, ...]:
    """Every check of `precision`.

    Args:
        comparison: on all images.
        batches: on the golden images in batches of several sizes.
        moved: limits that replace the usual ones, by the name of the check.

    Raises:
        InputError: `moved` names an unknown check.
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
    int8, rounding = evidence.int8, evidence.rounding
    actual = int8.actual if int8 else NEEDS["not_int8"]
    missed = None if int8 is None or isinstance(actual, str) else 100 * (int8.planned - actual) / int8.planned
    differing = None if comparison.disagreements is None else 100 * comparison.disagreements / comparison.images
    values = {
        "parity": (comparison.relative_difference, comparison.images),
        "batches": (batches.relative_difference, batches.images),
        "rounding": (rounding, comparison.images if rounding is not None else 0),
        "cosine": (1 - comparison.cosine, comparison.images),
        "disagreement": (differing, comparison.images if differing is not None else 0),
        "accuracy_drop": (lost, labelled),
        "not_int8": (missed, int8.products if int8 and missed is not None else 0),
    }
    lacks = {**NEEDS, "not_int8": str(actual), "disagreement": NO_CLASSES}
    if evidence.scores.kind == "values":
        lacks["accuracy_drop"] = NO_CLASSES
    limits = {**LIMITS[precision]}
    if evidence.scores.kind == "independent" and "disagreement" in limits:
        limits["disagreement"] = dataclasses.replace(limits["disagreement"], unit=OTHER_SIDE)
    return tuple(make_check(name, limit, *values[name], moved, lacks.get(name, "")) for name, limit in limits.items())


def make_check(  # noqa: PLR0917
    name: str, limit: Limit, value: float | None, samples: int, moved: Mapping[str, float], lacks: str
) -> Check:
    """One check. Without a value it counts as not run, and `lacks` is the reason."""
    bound, reason = limit.value, limit.reason
    if name in moved:
        bound, reason = moved[name], f"moved from {limit.value:g}"
    if value is None:
        return Check(name, None, bound, limit.unit, samples, None, f"not run: {lacks}")
    if name in SHARES and bound >= EVERYTHING and value <= EVERYTHING:
        return Check(name, value, bound, limit.unit, samples, None, "no limit, as --max-drop or --limit asked")
    finite = value if math.isfinite(value) else None
    passed = value <= bound
    return Check(
        name, finite, bound, limit.unit, samples, passed, reason if finite is not None else f"not finite; {reason}"
    )


def moved_limits(checks: Iterable[Check], precision: str) -> dict[str, float]:
    """The limits that `--limit` or `--max-drop` moved when these checks were made, by the name of the check."""
    usual = LIMITS[precision]
    return {
        check.name: check.limit for check in checks if check.name in usual and check.limit != usual[check.name].value
    }


def require_passed(checks: Iterable[Check], where: Callable[[], str | Bisection]) -> None:
    """Raise an error if a check failed.

    Args:
        where: finds the place of the first difference. It is called only after a failure.

    Raises:
        CheckFailed: it lists the failed checks with values and limits, and the place of the first difference. If
            only the engine is wrong, `bisection` has the details.
    """
    checks = tuple(checks)
    failed = [check for check in checks if check.passed is False]
    if not failed:
        return
    facts = "; ".join(
        f"{check.name} is {'not finite' if check.value is None else f'{check.value:.3g}'}" for check in failed
    )
    limits = "; ".join(f"{check.name} at most {check.limit:g} {check.unit}" for check in failed)
    place = where()
    error = CheckFailed(f"check failed: {facts}", expected=limits, remedy=str(place))
    error.checks = checks
    error.bisection = place if isinstance(place, Bisection) else None
    raise error
