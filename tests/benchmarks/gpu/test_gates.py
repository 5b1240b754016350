"""The gates follow from rows, whatever order these are in; what did not run is not passed."""

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
    """Those that count, among others that do not."""
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
def test_both_are_ratios_of_latencies_at_batch_1(one: float, many: float, serial: float, random: object) -> None:
    found = rows(one, many, serial)
    random.shuffle(found)  # type: ignore[attr-defined]
    growth, share = gates(found)
    assert (growth.value, growth.passed) == (many / one, many / one <= 1.25)
    assert (share.value, share.passed) == (serial / many, serial / many >= 12.8)


def test_the_limits_are_those_of_the_issue() -> None:
    growth, share = gates(rows(1.0, 1.25, 16.0))
    assert (growth.passed, share.passed) == (True, True)
    growth, share = gates(rows(1.0, 1.26, 16.0))
    assert (growth.passed, share.passed) == (False, False)
    assert str(growth) == "FAILED: tensorrt, stacked: latency of L = 16 by that of L = 1 1.26, at most 1.25"
    assert str(share) == (
        "FAILED: tensorrt, stacked: latency of 32 serial layers by that of L = 16, M = 2 12.7, at least 12.8"
    )


def verdicts(found: list[Row]) -> list[tuple[bool | None, str]]:
    return [(gate.passed, gate.reason) for gate in gates(found)]


def test_what_was_skipped_or_answered_wrongly_is_not_run() -> None:
    good = rows(1.0, 1.0, 16.0)
    without = [
        skipped(Row(one.part, NAME, "fp16", 16, 2), "no time left") if one.branches == 16 else one for one in good
    ]
    assert verdicts(without) == [(None, "skipped: no time left")] * 2
    wrong = [dataclasses.replace(one, passed=False) if one.depth == 32 else one for one in good]
    assert verdicts(wrong) == [(True, ""), (None, "L = 1 answers wrongly")]
    assert verdicts([one for one in good if one.depth != 32])[1] == (
        None, "there is no row of L = 1 in serial network of equal depth",
    )  # fmt: skip
    assert [*gates([])] == []
    assert str(Gate("a", "b", 1, most=True, reason="why")) == "not run: b: a: why"
