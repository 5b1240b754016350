"""Chooses branches of a model: the first K, or those with given numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

from paraexport.errors import InputError, SpecError, brief

BranchChoice: TypeAlias = int | tuple[int, ...]
"""The first K branches, or the branches with these numbers, counted from 0, in this order."""
FORM = "how many to keep, such as 3, or their numbers, such as 0,2,5"
AT_LOAD = "--branches-at-load"
MOST = 2**20
"""The largest number of branches."""


def parse_choice(text: str) -> BranchChoice:
    """`3` -> the first 3; `0,2,5` -> branches 0, 2 and 5; `5,` -> only branch 5.

    Raises:
        InputError: the text has another form, or a number is repeated.
    """
    plain = text.strip()
    if re.fullmatch(r"\d{1,9}", plain):
        return checked_choice(int(plain))
    if not re.fullmatch(r"\d{1,9}(\s*,\s*\d{1,9})*\s*,?", plain):
        raise refusal(brief(text))
    return checked_choice(tuple(int(part) for part in plain.split(",") if part.strip()))


def checked_choice(choice: object) -> BranchChoice:
    """Return a valid choice; a list becomes a tuple.

    Raises:
        InputError: it is no choice, or a number is repeated or out of range.
    """
    if is_whole(choice) and 1 <= choice <= MOST:  # type: ignore[operator]
        return choice  # type: ignore[return-value]
    numbers = tuple(choice) if isinstance(choice, list | tuple | range) else ()
    if not numbers or not all(is_whole(number) and 0 <= number < MOST for number in numbers):
        raise refusal(brief(choice))
    require_distinct(numbers, "a branch is chosen twice", "--branches")
    return numbers


ALL = "all"
BranchCounts: TypeAlias = str | tuple[int, ...]
"""Numbers of branches, ascending, or `ALL`: every number from 1."""


def parse_counts(text: str) -> BranchCounts:
    """`all` -> `all`; `4,1,2` -> (1, 2, 4).

    Raises:
        InputError: the text has another form, or a number is repeated.
    """
    plain = text.strip()
    if plain.lower() == ALL:
        return ALL
    if not re.fullmatch(r"\d{1,9}(\s*,\s*\d{1,9})*", plain):
        raise refused_counts(brief(text))
    counts = tuple(int(part) for part in plain.split(","))
    if min(counts) < 1:
        raise refused_counts(brief(text))
    return checked_counts(counts)


def checked_counts(counts: object) -> BranchCounts:
    """Return valid counts, in ascending order.

    Raises:
        InputError: they are no counts, or a number is repeated or out of range.
    """
    if counts == ALL:
        return ALL
    numbers = tuple(counts) if isinstance(counts, list | tuple | range) else ()
    if not numbers or not all(is_whole(number) and 1 <= number <= MOST for number in numbers):
        raise refused_counts(brief(counts))
    require_distinct(numbers, "a number is given twice", AT_LOAD)
    return tuple(sorted(numbers))


def smaller_counts(counts: BranchCounts, available: int) -> tuple[int, ...]:
    """The counts below `available`, for a model with so many branches.

    Raises:
        SpecError: the model has fewer branches.
    """
    if isinstance(counts, str):
        return tuple(range(1, available))
    if counts[-1] > available:
        what = f"the model has only {available} branch{'es' if available > 1 else ''}"
        raise SpecError(what, where=AT_LOAD, expected=f"numbers from 1 to {available}", got=counts[-1])
    return tuple(count for count in counts if count < available)


def refused_counts(got: str) -> InputError:
    expected = f"{ALL}, or numbers of branches from 1, such as 1,2,4"
    return InputError("invalid numbers of branches", where=AT_LOAD, expected=expected, got=got)


def require_distinct(numbers: Sequence[int], what: str, option: str) -> None:
    if repeated := [number for number, count in Counter(numbers).items() if count > 1]:
        got = f"{', '.join(map(str, repeated))} more than once"
        raise InputError(what, where=option, got=got, remedy="give each number once")


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def chosen_numbers(choice: BranchChoice, available: int) -> tuple[int, ...]:
    """The numbers of the chosen branches, for a model with `available` branches.

    Raises:
        SpecError: the model has fewer branches.
    """
    if isinstance(choice, int):
        if not 1 <= choice <= available:
            raise SpecError(f"cannot keep {choice} branches", where="--branches", expected=f"1..{available}")
        return tuple(range(choice))
    if missing := [number for number in choice if number >= available]:
        raise SpecError(
            f"the model has no branch {', '.join(map(str, missing))}",
            where="--branches",
            expected=f"numbers from 0 to {available - 1}",
            remedy="branches are counted from 0",
        )
    return choice


def refusal(got: str) -> InputError:
    return InputError("invalid choice of branches", where="--branches", expected=FORM, got=got)
