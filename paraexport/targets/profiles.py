"""Checks optimisation profiles: the batch sizes that an engine accepts, and those it is optimised for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paraexport.errors import EngineError

OPTIMUM = 8
"""The default batch size that kernels are optimised for."""


@dataclass(frozen=True)
class Profile:
    """A range of batch sizes, with TensorRT's names: kernels are optimised for `opt`."""

    min: int
    opt: int
    max: int

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"

    def __contains__(self, batch: int) -> bool:
        return self.min <= batch <= self.max


def settle(given: Sequence[Profile], max_batch: int) -> tuple[Profile, ...]:
    """The profiles `given`, each once; if there are none, one profile for 1 to `max_batch`.

    Raises:
        EngineError: a profile is impossible or exceeds `max_batch`, or no profile accepts some batch size up to it.
    """
    profiles = tuple(dict.fromkeys(given)) or (Profile(1, min(OPTIMUM, max_batch), max_batch),)
    if problems := [*impossible(profiles, max_batch)]:
        raise EngineError(
            "impossible profiles",
            where=f"--profile {', '.join(map(str, profiles))}",
            expected=f"MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX <= {max_batch}, the --max-batch",
            got="; ".join(problems),
            remedy="correct the profiles, or give another --max-batch",
        )
    uncovered = (batch for batch in range(1, max_batch + 1) if not any(batch in profile for profile in profiles))
    if missing := [*ranges(uncovered)]:
        others = " ".join(f"--profile {Profile(first, last, last)}" for first, last in missing)
        raise EngineError(
            f"no profile accepts a batch of {' or '.join(range_text(first, last) for first, last in missing)}",
            where=f"--profile {', '.join(map(str, profiles))}",
            expected=f"every batch from 1 to {max_batch}, the --max-batch, in some profile",
            remedy=f"add {others}, or widen a profile",
        )
    return profiles


def nearest(profiles: Sequence[Profile], batch: int) -> int:
    """The index of the profile for a batch: among those that accept it, the one with the nearest optimum, as a ratio.

    Raises:
        EngineError: no profile accepts it.
    """
    fitting = [number for number, profile in enumerate(profiles) if batch in profile]
    if not fitting:
        accepted = " or ".join(map(str, profiles))
        remedy = "use another batch size, or build with a --profile for it"
        raise EngineError("no profile accepts the batch", expected=accepted, got=batch, remedy=remedy)
    return min(fitting, key=lambda number: max(batch / profiles[number].opt, profiles[number].opt / batch))


def impossible(profiles: Sequence[Profile], max_batch: int) -> Iterator[str]:
    for profile in profiles:
        if not 1 <= profile.min <= profile.opt <= profile.max:
            yield f"{profile} is out of order"
        elif profile.max > max_batch:
            yield f"{profile} goes beyond {max_batch}"


def ranges(numbers: Iterator[int]) -> Iterator[tuple[int, int]]:
    """(1, 2, 3, 7) -> (1, 3), (7, 7)."""
    for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        yield run[0], run[-1]


def range_text(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
