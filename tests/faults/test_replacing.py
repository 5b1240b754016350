"""Short campaigns of kills, and of loads during replacement; `make faults` has the long ones."""

from pathlib import Path

import pytest

from tests.faults.bundles import Variant, hidden, put, variants
from tests.faults.kills import kill_every_step
from tests.faults.replacements import WAYS, load_during_replacement


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Variant, Variant]:
    return variants(tmp_path_factory.mktemp("variants"))


@pytest.mark.parametrize("way", WAYS)
def test_a_load_during_replacement_gives_the_old_bundle_or_the_new(
    way: str, both: tuple[Variant, Variant], tmp_path: Path
) -> None:
    outcomes = load_during_replacement(both, tmp_path / "a.bundle", pause_s=0, way=way, loads=40)
    assert outcomes.keys() <= {"right, first", "right, second"}
    assert outcomes.total() == 40
    put(both[0], tmp_path / "a.bundle")  # the writer was killed
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("way", WAYS)
def test_a_replacement_that_is_killed_leaves_the_old_bundle_or_the_new(
    way: str, both: tuple[Variant, Variant], tmp_path: Path
) -> None:
    tally = kill_every_step(both, tmp_path / "a.bundle", way)
    assert tally.failures == []
    assert tally.old + tally.new == tally.kills
    assert min(tally.old, tally.new) > 0
