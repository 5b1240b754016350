"""Percentiles against numpy, and the number of calls that each one needs against published tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraexport.timing.percentiles import calls_needed, percentile, summarize

latencies = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=50)


@given(latencies, st.floats(0, 100))
def test_percentiles_are_those_of_numpy(values: list[float], percent: float) -> None:
    assert percentile(values, percent) == pytest.approx(np.percentile(values, percent), rel=1e-9)


def test_a_percentile_by_hand() -> None:
    assert [percentile([40, 10, 30, 20], percent) for percent in (0, 25, 50, 90, 100)] == [10, 17.5, 25, 37, 40]


@pytest.mark.parametrize(("percent", "calls"), [(50, 5), (90, 29), (95, 59), (99, 299)])
def test_the_number_of_calls_is_that_of_wilks(percent: int, calls: int) -> None:
    """First order, one-sided, 95 % confidence."""
    assert calls_needed(percent) == calls


@pytest.mark.parametrize(
    ("calls", "percents"),
    [(4, []), (5, [50]), (28, [50]), (29, [50, 90]), (59, [50, 90, 95]), (298, [50, 90, 95]), (299, [50, 90, 95, 99])],
)
def test_a_percentile_with_too_few_calls_is_left_out(calls: int, percents: list[int]) -> None:
    summary = summarize([float(number) for number in range(1, calls + 1)])
    assert [*summary.percentiles_ms] == percents
    assert (summary.calls, summary.fastest_ms, summary.mean_ms) == (calls, 1.0, (calls + 1) / 2)


def test_a_summary_by_hand() -> None:
    summary = summarize([5.0, 1.0, 2.0, 4.0, 3.0], percents=(50,))
    assert summary.percentiles_ms == {50: 3.0}
