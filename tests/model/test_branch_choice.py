"""`--branches` and `--branches-at-load`: which texts and values are choices, and which branches they choose."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraexport.errors import InputError, SpecError
from paraexport.model.branch_choice import (
    checked_choice,
    checked_counts,
    chosen_numbers,
    parse_choice,
    parse_counts,
    smaller_counts,
)

NUMBERS = st.lists(st.integers(0, 40), min_size=1, max_size=8, unique=True)


@given(st.integers(1, 1000))
def test_a_number_keeps_the_first_branches(count: int) -> None:
    assert parse_choice(f" {count} ") == count
    assert chosen_numbers(count, 1000) == tuple(range(count))


@given(NUMBERS, st.sampled_from([",", " , ", ", "]))
def test_a_list_keeps_its_order(numbers: list[int], comma: str) -> None:
    text = comma.join(map(str, numbers)) + ("," if len(numbers) == 1 else "")
    choice = parse_choice(text)
    assert choice == tuple(numbers)
    assert chosen_numbers(choice, 41) == tuple(numbers)
    assert checked_choice(numbers) == tuple(numbers)


@pytest.mark.parametrize("text", ["", "two", "-1", "1.5", "1,,2", ",1", "1;2", "0", "0x2", "all", "1 2", "9" * 30, "²"])
def test_other_texts_are_no_choice(text: str) -> None:
    with pytest.raises(InputError, match="invalid choice of branches"):
        parse_choice(text)


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "2", [], [True], [1.0], [-1], None, {0, 1}, 2**40])
def test_other_values_are_no_choice(value: Any) -> None:
    with pytest.raises(InputError, match="invalid choice of branches"):
        checked_choice(value)


def test_a_repeated_branch_is_refused() -> None:
    with pytest.raises(InputError, match=r"chosen twice.*got 2, 5 more than once"):
        parse_choice("2,5,0,2,5")


def test_branches_that_the_model_does_not_have_are_refused() -> None:
    with pytest.raises(SpecError, match=r"no branch 4, 9 .*numbers from 0 to 3.*counted from 0"):
        chosen_numbers((0, 4, 9), 4)
    with pytest.raises(SpecError, match=r"cannot keep 5 branches .*1\.\.4"):
        chosen_numbers(5, 4)


@given(st.sets(st.integers(1, 12), min_size=1), st.integers(1, 12))
def test_counts_are_those_below_all(counts: set[int], branches: int) -> None:
    parsed = parse_counts(",".join(map(str, counts)))
    assert parsed == tuple(sorted(counts)) == checked_counts([*counts])
    if max(counts) <= branches:
        assert smaller_counts(parsed, branches) == tuple(sorted(counts - {branches}))
    else:
        with pytest.raises(SpecError, match=f"only {branches} branch"):
            smaller_counts(parsed, branches)


@pytest.mark.parametrize("text", ["ALL", " all "])
def test_all_stands_for_every_number(text: str) -> None:
    assert smaller_counts(parse_counts(text), 4) == (1, 2, 3)
    assert smaller_counts(parse_counts(text), 1) == ()


@pytest.mark.parametrize("text", ["", "none", "0", "1,0", "1,,2", "1-3", "-2"])
def test_other_texts_are_no_counts(text: str) -> None:
    with pytest.raises(InputError, match="invalid numbers of branches"):
        parse_counts(text)


def test_repeated_counts_are_refused() -> None:
    with pytest.raises(InputError, match=r"given twice.*got 2 more than once"):
        parse_counts("1,2,2")
