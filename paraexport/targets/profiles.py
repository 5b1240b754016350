"""Optimisation profiles: the batches that an engine takes, and those that its kernels are chosen for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paraexport.errors import EngineError

OPTIMUM = 8
"""Images in one run that kernels are chosen for where nobody says."""


@dataclass(frozen=True)
class Profile:
    """A range of batches; TensorRT's own words for its ends and for the one that kernels are chosen for."""

    min: int
    opt: int
    max: int

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"

    def __contains__(self, batch: int) -> bool:
        return self.min <= batch <= self.max


def settle(given: Sequence[Profile], max_batch: int) -> tuple[Profile, ...]:
    """The profiles `given`, each once; where none is, one for everything up to `max_batch`.

    Raises:
        EngineError: one is impossible or goes beyond `max_batch`, or no profile takes some batch up to it.
    """
    profiles = tuple(dict.fromkeys(given)) or (Profile(1, min(OPTIMUM, max_batch), max_batch),)
    if faults := [*impossible(profiles, max_batch)]:
        raise EngineError(
            "no such profiles can be",
            where=f"--profile {', '.join(map(str, profiles))}",
            expected=f"MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX <= {max_batch}, the --max-batch",
            got="; ".join(faults),
            remedy="correct them, or give another --max-batch",
        )
    if missing := [*ranges(batch for batch in range(1, max_batch + 1) if not any(batch in one for one in profiles))]:
        others = " ".join(f"--profile {Profile(first, last, last)}" for first, last in missing)
        raise EngineError(
            f"no profile takes a batch of {' or '.join(span(*one) for one in missing)}",
            where=f"--profile {', '.join(map(str, profiles))}",
            expected=f"every batch from 1 to {max_batch}, the --max-batch, in some profile",
            remedy=f"add {others}, or widen one",
        )
    return profiles


def nearest(profiles: Sequence[Profile], batch: int) -> int:
    """The number of the profile for a batch: of those that take it, the one whose optimum is nearest, as a ratio.

    Raises:
        EngineError: none takes it.
    """
    fit = [number for number, one in enumerate(profiles) if batch in one]
    if not fit:
        raise EngineError("no profile takes the batch", expected=" or ".join(map(str, profiles)), got=batch)
    return min(fit, key=lambda number: max(batch / profiles[number].opt, profiles[number].opt / batch))


def impossible(profiles: Sequence[Profile], max_batch: int) -> Iterator[str]:
    for one in profiles:
        if not 1 <= one.min <= one.opt <= one.max:
            yield f"{one} is out of order"
        elif one.max > max_batch:
            yield f"{one} goes beyond {max_batch}"


def ranges(numbers: Iterator[int]) -> Iterator[tuple[int, int]]:
    """(1, 2, 3, 7) -> (1, 3), (7, 7)."""
    for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        yield run[0], run[-1]


def span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
