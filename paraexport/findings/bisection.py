"""Which part of a right graph a target computes wrongly: what running the parts alone found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PartDifference:
    """What a part of the graph, alone on the target and given the right input, is off from the graph node by node."""

    part: str
    """`stem`, `branches.3`, `branches.*` for stacked ones, `sum and head`, or a layer or module inside of one."""
    within: str
    """The part that it was cut out of; empty for the graph."""
    nodes: int
    off: float | None
    """max |Δ| / max |value|, of the value that it is largest of; None where a number is not finite, or nothing ran."""
    by_branch: dict[str, float | None] = field(default_factory=dict)
    """The same for each of stacked branches."""
    failure: str = ""
    """Why it could not run by itself."""

    @property
    def extent(self) -> float:
        return math.inf if self.off is None else self.off

    def is_off(self, limit: float) -> bool:
        return not self.failure and not self.extent <= limit

    @property
    def worst_branches(self) -> list[str]:
        """The stacked branches that are off the most; none where all are off alike."""
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
    """Where a target first computes otherwise than the graph says, node by node."""

    target: str
    batch: int
    """Images in the run: of the batches that were tried, the one at which the engine is off the most."""
    limit: float
    """From where on a part is off."""
    whole: float | None
    """max |Δ logit| / max |logit| of the whole engine; None where a logit is not finite."""
    parts: tuple[PartDifference, ...]
    """All that were tried, in order."""
    culprit: PartDifference | None
    """The finest part that is off; None where none is."""
    also: tuple[str, ...] = ()
    """Parts beside it, or beside one that it was cut out of, that are off as well, and were not cut further."""

    def __str__(self) -> str:
        """One line for people."""
        if self.culprit is not None:
            also = f"; also off: {', '.join(self.also)}" if self.also else ""
            return f"on {self.target}, given the right input, {self.culprit}; node by node, the graph is right{also}"
        if self.whole is not None and self.whole <= self.limit:
            return f"{self.target} gives the same results as the graph run node by node, within {self.limit:g}"
        worst = max(self.parts, key=lambda part: -1.0 if part.failure else part.extent)
        return f"on {self.target} no part alone is off by more than {self.limit:g}; the worst: {worst}"
