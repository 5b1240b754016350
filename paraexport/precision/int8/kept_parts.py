"""Finds the smallest set of parts to keep in float32, so that the accuracy drop stays within a limit.

No choice needs a run of the model. The error at the sum is the sum of what the lowered parts add to it
(`errors_at_sum`), and the head alone turns the sum into logits. So many choices can be tried, smallest first. The
lowered model itself confirms the choice that is taken.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paraexport.precision.int8.errors_at_sum import SumErrors, norm
from paraexport.precision.judge import Judge

Array = NDArray[np.float32]
MOST_TRIED = 2000
"""Sets of one size that are tried. If there are more, only parts with the largest errors are combined."""
MOST_CONFIRMED = 3
"""Sets of one size that are confirmed with the lowered model."""


@dataclass(frozen=True)
class KeptParts:
    """The parts to keep in float32, and the accuracy drop with them."""

    kept: tuple[str, ...]
    drop_pp: float
    """In percentage points; see `Judge.drop_pp`."""
    met: bool
    """Whether the drop is within the limit. If not, this is the best set of all tried."""


def smallest_set(
    errors: SumErrors,
    head: Callable[[Array], Array],
    judge: Judge,
    max_drop_pp: float,
    confirm: Callable[[tuple[str, ...]], float],
) -> KeptParts:
    """The smallest set to keep that meets the limit; at least one part is lowered.

    `confirm` measures the drop of a set in percentage points with the lowered model itself.
    """
    best = KeptParts((), math.inf, met=False)
    most_promising: tuple[float, tuple[str, ...]] = (math.inf, ())
    for size in range(len(errors.parts)):
        promising = []
        for kept in candidate_sets(errors, size):
            error = errors.with_kept(kept)
            expected_drop_pp = judge.drop_pp(head(errors.total + error))
            most_promising = min(most_promising, (expected_drop_pp, kept), key=lambda candidate: candidate[0])
            if expected_drop_pp <= max_drop_pp:
                promising.append((norm(error), kept))
        if not promising and not size:
            promising.append((0.0, ()))  # confirm the empty set anyway: the error needs its drop
        for _, kept in sorted(promising)[:MOST_CONFIRMED]:
            drop_pp = confirm(kept)
            if drop_pp <= max_drop_pp:
                return KeptParts(kept, drop_pp, met=True)
            best = min(best, KeptParts(kept, drop_pp, met=False), key=lambda candidate: candidate.drop_pp)
    # No choice met the limit. Confirm the most promising one, so that the error can report it.
    drop_pp = confirm(most_promising[1])
    last = KeptParts(most_promising[1], drop_pp, met=drop_pp <= max_drop_pp)
    return min(best, last, key=lambda candidate: candidate.drop_pp)


def candidate_sets(errors: SumErrors, size: int) -> Iterator[tuple[str, ...]]:
    """Sets of `size` parts: all of them, or those of the worst parts if there are more than `MOST_TRIED`."""
    worst = sorted(errors.parts, key=lambda part: -norm(errors.parts[part]))
    among = max(count for count in range(size, len(worst) + 1) if math.comb(count, size) <= MOST_TRIED or count == size)
    yield from itertools.combinations(worst[:among], size)
