"""Records which part of a correct graph a target computes wrongly, found by running the parts alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PartDifference:
    """The error of one part of the graph: alone on the target with correct inputs, against running it node by node."""

    part: str
    """`stem`, `branches.3`, `branches.*` for stacked branches, `sum and head`, or a layer or module inside a part."""
    within: str
    """The part that contains it; empty for the whole graph."""
    nodes: int
    off: float | None
    """The largest max |Δ| / max |value| of its values; None if a number is not finite, or if the part did not run."""
    by_branch: dict[str, float | None] = field(default_factory=dict)
    """The same for each branch, if the branches are stacked."""
    failure: str = ""
    """Why it could not run alone."""

    @property
    def extent(self) -> float:
        return math.inf if self.off is None else self.off

    def is_off(self, limit: float) -> bool:
        return not self.failure and not self.extent <= limit

    @property
    def worst_branches(self) -> list[str]:
        """The stacked branches with the largest error; none if all have the same error."""
        off = {name: math.inf if extent is None else extent for name, extent in self.by_branch.items()}
        most = [name for name, extent in off.items() if extent == max(off.values())]
        return most if len(most) < len(off) else []

    def __str__(self) -> str:
        """`branches.3 is off by 0.2 of its largest value`."""
        amount = "is not finite" if self.off is None else f"is off by {self.off:.2g} of its largest value"
        most = f", most in {', '.join(self.worst_branches)}" if self.worst_branches else ""
        return f"{self.part} {amount}{most}"


@dataclass(frozen=True)
class Bisection:
    """The first part that a target computes differently from the graph run node by node."""

    target: str
    batch: int
    """The number of images in the run: the batch size with the largest error of those that were tried."""
    limit: float
    """A part is off if its error exceeds this limit."""
    whole: float | None
    """max |Δ logit| / max |logit| of the whole engine; None if a logit is not finite."""
    parts: tuple[PartDifference, ...]
    """All parts that were tried, in order."""
    culprit: PartDifference | None
    """The smallest part that is off; None if no part is."""
    also: tuple[str, ...] = ()
    """Other parts that are off, which were not cut further."""

    def __str__(self) -> str:
        """One line for people."""
        if self.culprit is not None:
            also = f"; also off: {', '.join(self.also)}" if self.also else ""
            right = "run node by node, the graph is right"
            return f"on {self.target}, with correct inputs, {self.culprit}; {right}{also}"
        if self.whole is not None and self.whole <= self.limit:
            return f"{self.target} gives the same results as the graph run node by node, within {self.limit:g}"
        worst = max(self.parts, key=lambda part: -1.0 if part.failure else part.extent)
        return f"on {self.target}, no single part is off by more than {self.limit:g}; the worst: {worst}"
