"""The limits for latency on a GPU. Each gate passes, fails or is not run, from the rows of `benchmarks.gpu.check`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.gpu.rows import Row

BRANCHES_PART, SERIAL_PART = "branches", "serial network of equal depth"
STACKED, PRECISION, BATCH = ", stacked", "fp16", 1
MANY, MOST_GROWTH, LEAST_SHARE = 16, 1.25, 0.8
VERDICTS = {True: "passed", False: "FAILED", None: "not run"}


@dataclass(frozen=True)
class Gate:
    ratio: str
    contestant: str
    limit: float
    most: bool
    """Whether the limit is the largest allowed value; else it is the smallest."""
    value: float | None = None
    passed: bool | None = None
    """None if it was not run."""
    reason: str = ""

    def __str__(self) -> str:
        bound = "most" if self.most else "least"
        value = "" if self.value is None else f" {self.value:.3g}, at {bound} {self.limit:g}"
        reason = f": {self.reason}" if self.reason else ""
        return f"{VERDICTS[self.passed]}: {self.contestant}: {self.ratio}{value}{reason}"


def gates(rows: Sequence[Row]) -> Iterator[Gate]:
    """Two gates for each stacked contestant, in fp16 at batch 1.

    Latency hardly grows with the branches: L = 16 takes at most 1.25 times as long as L = 1. And parallel branches beat
    the serial network with the same N = L·M layers: they are at least 0.8 · N/M times as fast.
    """
    for name in dict.fromkeys(row.contestant for row in rows if row.contestant.endswith(STACKED)):
        own_rows = [row for row in rows if row.contestant == name and row.precision == PRECISION]
        many_ms, one_ms = latency(own_rows, BRANCHES_PART, MANY), latency(own_rows, BRANCHES_PART, 1)
        growth = Gate(f"latency of L = {MANY} divided by that of L = 1", name, MOST_GROWTH, most=True)
        yield judge(growth, many_ms, one_ms)
        depth = next((row.depth for row in own_rows if row.part == BRANCHES_PART and row.branches == MANY), 0)
        ratio = f"latency of {MANY * depth} serial layers divided by that of L = {MANY}, M = {depth}"
        serial_ms = latency(own_rows, SERIAL_PART, 1, MANY * depth)
        yield judge(Gate(ratio, name, LEAST_SHARE * MANY, most=False), serial_ms, many_ms)


def judge(gate: Gate, above: float | str, below: float | str) -> Gate:
    """The gate with the ratio of two latencies, or with the reason why one is missing."""
    if isinstance(above, str) or isinstance(below, str):
        return replace(gate, reason=next(why for why in (above, below) if isinstance(why, str)))
    ratio = above / below
    return replace(gate, value=ratio, passed=ratio <= gate.limit if gate.most else ratio >= gate.limit)


def latency(rows: Sequence[Row], part: str, branches: int, depth: int | None = None) -> float | str:
    """The latency in ms of a part and size at batch 1, or the reason why there is none."""
    for row in rows:
        if row.part == part and row.branches == branches and depth in (None, row.depth):
            if row.latency_ms is None:
                return row.note
            if row.batch == BATCH:
                return row.latency_ms if row.passed else f"the answers of L = {branches} are wrong"
    return f"there is no row for L = {branches} in {part}"
