"""Windows repeat until the last ones agree, and never longer than the rule allows."""

from collections.abc import Iterator, Sequence

import pytest

from paraexport.timing.stability import StoppingRule, Windows, repeat_until_stable


def repeat(windows: Sequence[Sequence[float]], rule: StoppingRule) -> tuple[Windows, int]:
    """The windows that were run, and how many were left."""
    remaining: Iterator[Sequence[float]] = iter(windows)
    measured = repeat_until_stable(lambda: next(remaining), rule)
    return measured, len([*remaining])


@pytest.mark.parametrize(
    ("values", "stable"),
    [
        ([10, 10], False),
        ([10, 10, 10], True),
        ([10, 10, 11], True),
        ([10, 10, 11.01], False),
        ([11, 10.5, 10], True),
        ([99, 10, 10.5, 11], True),
        ([10, 10, 10, 12], False),
    ],
)
def test_the_last_three_values_must_be_within_ten_percent(values: list[float], stable: bool) -> None:
    assert StoppingRule().stable(values) is stable


def test_windows_end_when_the_last_ones_agree() -> None:
    slow_start = [[30.0, 40.0], [20.0, 20.0], [10.0, 10.0, 99.0], [10.5], [9.0, 11.0], [1.0]]
    measured, left = repeat(slow_start, StoppingRule())
    assert (measured.stable, left) == (True, 1)
    assert measured.values_ms == [35.0, 20.0, 10.0, 10.5, 10.0]
    assert measured.latency_ms == 10.0
    assert (measured.summary.calls, measured.summary.fastest_ms) == (6, 9.0)


def test_windows_that_never_agree_end_at_the_limit_as_unstable() -> None:
    measured, left = repeat([[1.0], [2.0]] * 5, StoppingRule(at_most=7))
    assert (measured.stable, len(measured.latencies_ms), left) == (False, 7, 3)
    assert measured.latency_ms == 1.0


def test_the_rule_can_ask_for_another_percentile() -> None:
    tails = [[1.0, 1.0, 5.0], [1.0, 1.0, 9.0], [1.0, 1.0, 5.0], [1.0, 1.0, 5.0], [1.0, 1.0, 5.0]]
    assert repeat(tails, StoppingRule(percent=50))[1] == 2
    measured, left = repeat(tails, StoppingRule(percent=100))
    assert (measured.latency_ms, left) == (5.0, 0)
