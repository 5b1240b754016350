"""A short campaign for each reader; `make faults` is the long one."""

import pytest

from tests.faults.campaign import run
from tests.faults.reader import all_readers

CASES = 150


@pytest.mark.parametrize("name", all_readers())
def test_a_damaged_file_is_read_or_refused(name: str) -> None:
    tally = run(all_readers()[name], 0, CASES)
    assert not tally.failures
    assert tally.cases == CASES
    assert tally.refused > 0
