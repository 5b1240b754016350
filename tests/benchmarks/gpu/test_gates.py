"""Gates follow from rows in any order, and what did not run does not pass."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gpu.gates import Gate, gates
from benchmarks.gpu.rows import Row, skipped

NAME = "tensorrt, stacked"


def row(part: str, branches: int, depth: int, latency_ms: float, batch: int = 1) -> Row:
    return Row(part, NAME, "fp16", branches, depth, batch, latency_ms, error=0.0, passed=True)


def rows(one_ms: float, many_ms: float, serial_ms: float) -> list[Row]:
    """The rows that count, among others that do not."""
    return [
        dataclasses.replace(row("branches", 16, 2, 999.0), contestant="tensorrt, folded"),
        dataclasses.replace(row("parity", 16, 2, 999.0), precision="int8"),
        row("branches", 1, 2, one_ms),
        row("branches", 1, 2, 999.0, batch=32),
        row("branches", 16, 2, many_ms),
        row("branches", 16, 2, 999.0, batch=32),
        row("serial network of equal depth", 1, 4, 999.0),
        row("serial network of equal depth", 1, 32, serial_ms),
    ]


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.floats(0.01, 100), st.randoms())
def test_gates_are_ratios_of_latencies_at_batch_1(
    one_ms: float, many_ms: float, serial_ms: float, random: object
) -> None:
    shuffled = rows(one_ms, many_ms, serial_ms)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    growth, share = gates(shuffled)
    assert (growth.value, growth.passed) == (many_ms / one_ms, many_ms / one_ms <= 1.25)
    assert (share.value, share.passed) == (serial_ms / many_ms, serial_ms / many_ms >= 12.8)


def test_the_limits_are_inclusive() -> None:
    growth, share = gates(rows(1.0, 1.25, 16.0))
    assert (growth.passed, share.passed) == (True, True)
    growth, share = gates(rows(1.0, 1.26, 16.0))
    assert (growth.passed, share.passed) == (False, False)
    assert str(growth) == "FAILED: tensorrt, stacked: latency of L = 16 divided by that of L = 1 1.26, at most 1.25"
    assert str(share) == (
        "FAILED: tensorrt, stacked: latency of 32 serial layers divided by that of L = 16, M = 2 12.7, at least 12.8"
    )


def verdicts(measured: list[Row]) -> list[tuple[bool | None, str]]:
    return [(gate.passed, gate.reason) for gate in gates(measured)]


def test_a_row_that_was_skipped_or_is_wrong_gives_no_verdict() -> None:
    good = rows(1.0, 1.0, 16.0)
    without = [
        skipped(Row(each.part, NAME, "fp16", 16, 2), "no time left") if each.branches == 16 else each for each in good
    ]
    assert verdicts(without) == [(None, "skipped: no time left")] * 2
    wrong = [dataclasses.replace(each, passed=False) if each.depth == 32 else each for each in good]
    assert verdicts(wrong) == [(True, ""), (None, "the answers of L = 1 are wrong")]
    assert verdicts([each for each in good if each.depth != 32])[1] == (
        None, "there is no row for L = 1 in serial network of equal depth",
    )  # fmt: skip
    assert [*gates([])] == []
    assert str(Gate("a", "b", 1, most=True, reason="why")) == "not run: b: a: why"
