"""What latency on a GPU has to keep, from the rows of `benchmarks.gpu.check`: passed, failed or not run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.gpu.rows import Row

BRANCHES_PART, SERIAL_PART = "branches", "serial network of equal depth"
STACKED, PRECISION, BATCH = ", stacked", "fp16", 1
MANY, MOST_GROWTH, LEAST_SHARE = 16, 1.25, 0.8
VERDICTS = {True: "passed", False: "FAILED", None: "not run"}


@dataclass(frozen=True)
class Gate:
    what: str
    contestant: str
    limit: float
    most: bool
    """The limit is the most, else the least, that the value may be."""
    value: float | None = None
    passed: bool | None = None
    """None where it did not run."""
    reason: str = ""

    def __str__(self) -> str:
        value = "" if self.value is None else f" {self.value:.3g}, at {'most' if self.most else 'least'} {self.limit:g}"
        return (
            f"{VERDICTS[self.passed]}: {self.contestant}: {self.what}{value}{f': {self.reason}' if self.reason else ''}"
        )


def gates(rows: Sequence[Row]) -> Iterator[Gate]:
    """Two for each stacked contestant, in fp16 at batch 1.

    Latency hardly grows with the branches: that of L = 16 is at most 1.25 times that of L = 1. And branches side by
    side are faster than the N = L·M layers of the serial network of equal depth: by at least 0.8 · N/M.
    """
    for name in dict.fromkeys(row.contestant for row in rows if row.contestant.endswith(STACKED)):
        mine = [row for row in rows if row.contestant == name and row.precision == PRECISION]
        many, one = latency(mine, BRANCHES_PART, MANY), latency(mine, BRANCHES_PART, 1)
        growth = Gate(f"latency of L = {MANY} by that of L = 1", name, MOST_GROWTH, most=True)
        yield judged(growth, many, one)
        depth = next((row.depth for row in mine if row.part == BRANCHES_PART and row.branches == MANY), 0)
        what = f"latency of {MANY * depth} serial layers by that of L = {MANY}, M = {depth}"
        serial = latency(mine, SERIAL_PART, 1, MANY * depth)
        yield judged(Gate(what, name, LEAST_SHARE * MANY, most=False), serial, many)


def judged(gate: Gate, above: float | str, below: float | str) -> Gate:
    """The gate with the ratio of two latencies, or with the reason why one is not there."""
    if isinstance(above, str) or isinstance(below, str):
        return replace(gate, reason=next(why for why in (above, below) if isinstance(why, str)))
    ratio = above / below
    return replace(gate, value=ratio, passed=ratio <= gate.limit if gate.most else ratio >= gate.limit)


def latency(rows: Sequence[Row], part: str, branches: int, depth: int | None = None) -> float | str:
    """In ms, of the row of this part and size at batch 1; or why there is none that counts."""
    for row in rows:
        if row.part == part and row.branches == branches and depth in (None, row.depth):
            if row.latency_ms is None:
                return row.note
            if row.batch == BATCH:
                return row.latency_ms if row.passed else f"L = {branches} answers wrongly"
    return f"there is no row of L = {branches} in {part}"
