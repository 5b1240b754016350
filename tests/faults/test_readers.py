"""A short campaign for each reader; `make faults` is the long one."""

import pytest

from tests.faults.campaign import run
from tests.faults.reader import all_readers


@pytest.mark.parametrize("name", all_readers())
def test_a_damaged_file_is_read_or_refused(name: str) -> None:
    reader = all_readers()[name]
    tally = run(reader, 0, reader.few)
    assert not tally.failures
    assert tally.cases == reader.few
    assert tally.refused > 0
