"""Compares a contestant with the first one, by their bursts of the same rounds."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from paraexport.timing.contest import Burst

Verdict = Literal["equal", "faster", "slower", "unclear"]

CONFIDENCE = 0.99
RESOLUTION = 1.2
"""The interval of a ratio is narrow if its upper end is at most this times the lower one: about 10 % either way."""
SAME = 1.03
"""Ratios nearer to 1 than this are no difference that matters."""
CLEAR = 1.5
"""If all of the interval is beyond this, its width does not matter."""


@dataclass(frozen=True)
class Comparison:
    """The median latency of the first contestant divided by the other's: 2 means that the other is twice as fast."""

    ratio: float
    low: float
    high: float
    """The ends of the interval of the ratio, with a confidence of 99 %."""

    @property
    def is_narrow(self) -> bool:
        return self.high <= RESOLUTION * self.low

    @property
    def is_decided(self) -> bool:
        """Whether more rounds would hardly change the verdict."""
        return self.is_narrow or self.low > CLEAR or self.high < 1 / CLEAR

    @property
    def verdict(self) -> Verdict:
        holds_one = self.low <= 1 <= self.high
        if self.is_narrow and (holds_one or is_within(self.ratio, SAME)):
            return "equal"
        if holds_one or is_within(self.ratio, SAME):
            return "unclear"
        return "faster" if self.ratio > 1 else "slower"


def compare(first: Sequence[Burst], own: Sequence[Burst]) -> Comparison:
    """Compare two contestants round by round; each has one burst or more."""
    differences = [math.log(other.median_ms / mine.median_ms) for other, mine in zip(first, own, strict=False)]
    estimate, low, high = signed_rank(differences)
    return Comparison(math.exp(estimate), math.exp(low), math.exp(high))


def all_decided(bursts: Sequence[Sequence[Burst]]) -> bool:
    """Whether every contestant was compared well enough with the first one."""
    return all(compare(bursts[0], own).is_decided for own in bursts[1:])


def is_within(ratio: float, factor: float) -> bool:
    return abs(math.log(ratio)) <= math.log(factor)


def signed_rank(values: Sequence[float]) -> tuple[float, float, float]:
    """The centre of symmetric noise, and an interval for it with a confidence of at least `CONFIDENCE`.

    The centre is the median of the means of all pairs, each value with itself too. The interval ends at two of these
    means; Wilcoxon's signed-rank test gives their places (Hodges and Lehmann, "Estimates of location based on rank
    tests", 1963). With fewer than eight values it reaches from the smallest to the largest, with less confidence.
    """
    means = sorted((left + right) / 2 for left, right in itertools.combinations_with_replacement(values, 2))
    # The number of sets of ranks with each sum. All sets are equally likely if the centre is 0.
    sets = [1]
    for rank in range(1, len(values) + 1):
        sets = [
            with_and_without + (sets[total - rank] if total >= rank else 0)
            for total, with_and_without in enumerate([*sets, *[0] * rank])
        ]
    place, likelihood = 0, sets[0]
    while 2 * likelihood <= (1 - CONFIDENCE) * 2 ** len(values):
        place += 1
        likelihood += sets[place]
    place = max(place - 1, 0)
    return statistics.median(means), means[place], means[-1 - place]
