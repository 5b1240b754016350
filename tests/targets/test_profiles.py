"""Optimisation profiles: the default, refusals, and the choice of a profile for a batch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraexport.errors import EngineError
from paraexport.targets.profiles import Profile, nearest, settle


@pytest.mark.parametrize(("max_batch", "expected"), [(64, "1:8:64"), (8, "1:8:8"), (5, "1:5:5"), (1, "1:1:1")])
def test_where_none_is_given_one_takes_everything(max_batch: int, expected: str) -> None:
    assert [str(one) for one in settle((), max_batch)] == [expected]


def test_those_that_are_given_are_taken_in_their_order_and_once() -> None:
    one, other = Profile(2, 8, 64), Profile(1, 1, 1)
    assert settle((one, other, one), 64) == (one, other)
    assert settle((Profile(1, 8, 64), Profile(1, 1, 4)), 64) == (Profile(1, 8, 64), Profile(1, 1, 4))


@pytest.mark.parametrize(
    ("profiles", "words"),
    [
        ([(1, 8, 4)], "1:8:4 is out of order"),
        ([(9, 8, 64)], "9:8:64 is out of order"),
        ([(0, 8, 64)], "0:8:64 is out of order"),
        ([(1, 8, 65)], "1:8:65 goes beyond 64"),
        ([(1, 8, 65), (4, 2, 8)], "1:8:65 goes beyond 64; 4:2:8 is out of order"),
        ([(2, 8, 64)], "no profile accepts a batch of 1 .*add --profile 1:1:1, or"),
        ([(1, 8, 32)], "no profile accepts a batch of 33 to 64 .*add --profile 33:64:64, or"),
        ([(1, 1, 1), (8, 8, 62)], "of 2 to 7 or 63 to 64 .*add --profile 2:7:7 --profile 63:64:64, or"),
    ],
)
def test_those_that_cannot_be_are_refused_with_what_to_do(profiles: list[tuple[int, int, int]], words: str) -> None:
    with pytest.raises(EngineError, match=f"--profile .*{words}") as caught:
        settle([Profile(*one) for one in profiles], 64)
    assert "\n" not in str(caught.value)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=4), st.integers(1, 12))
def test_every_batch_is_taken_or_the_profiles_are_refused(ends: list[tuple[int, int]], max_batch: int) -> None:
    profiles = [Profile(min(pair), max(pair), max(pair)) for pair in ends]
    covered = {batch for one in profiles for batch in range(one.min, one.max + 1)}
    if covered == set(range(1, max_batch + 1)):
        assert {*settle(profiles, max_batch)} == {*profiles}
        for batch in covered:
            chosen = profiles[nearest(profiles, batch)]
            assert chosen.min <= batch <= chosen.max
    else:
        with pytest.raises(EngineError):
            settle(profiles, max_batch)


@pytest.mark.parametrize(("batch", "expected"), [(1, 0), (2, 0), (3, 1), (4, 1), (16, 1), (20, 2), (64, 2)])
def test_of_several_the_one_with_the_nearest_optimum_runs(batch: int, expected: int) -> None:
    """1 and 8 meet at √8 = 2.8, 8 and 32 at 16: there the first is taken."""
    assert nearest((Profile(1, 1, 4), Profile(1, 8, 64), Profile(16, 32, 64)), batch) == expected


def test_a_batch_that_no_profile_takes_is_refused() -> None:
    with pytest.raises(EngineError, match=r"no profile accepts the batch \(expected 1:1:1 or 4:8:8, got 3\)"):
        nearest((Profile(1, 1, 1), Profile(4, 8, 8)), 3)
