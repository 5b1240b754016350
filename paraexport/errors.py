"""Defines every error of the package, with its exit code on the command line.

ParaexportError
├── CheckFailed            1   the result differs from PyTorch
├── InputError             2   bad usage or bad input (also a ValueError)
│   ├── CheckpointError        a file is no checkpoint, or it contradicts itself
│   ├── SpecError              a field of the spec is missing, unknown or impossible
│   ├── DataError              images or labels cannot be used
│   ├── OutputError            a path cannot be written, or must not be
│   ├── BundleError            a bundle is incomplete, changed or too new
│   ├── TraceError             a model cannot be expressed as ONNX
│   └── EngineError            the target cannot compile or run a graph or an option
└── MissingError           3   this machine lacks something that the target needs
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paraexport.findings.bisection import Bisection
    from paraexport.findings.checks import Check


class ParaexportError(Exception):
    """An error as one line: what happened, where, what was expected, what came instead, and the remedy.

    Each part is also an attribute, for programs.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        got: object = None,
        remedy: str | None = None,
    ) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.expected = None if expected is None else str(expected)
        self.got = None if got is None else str(got)
        self.remedy = remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        line = self.what if self.where is None else f"{self.where}: {self.what}"
        facts = [
            f"{name} {fact}" for name, fact in (("expected", self.expected), ("got", self.got)) if fact is not None
        ]
        if facts:
            line += f" ({', '.join(facts)})"
        return printable(line if self.remedy is None else f"{line}; {self.remedy}")


class BuildWarning(UserWarning):
    """Something to know before using a bundle: an assumption, or a reason to trust its checks less."""


class CheckFailed(ParaexportError):
    exit_code = 1
    checks: tuple[Check, ...] = ()
    """All checks that ran, passed or not."""
    bisection: Bisection | None = None
    """If the graph is right and the engine is wrong: the part of the graph that the target computes wrongly."""


class InputError(ParaexportError, ValueError):
    exit_code = 2


class CheckpointError(InputError):
    pass


@dataclass(frozen=True)
class OpenField:
    """A field of the spec that the checkpoint does not settle, so that the user must give it."""

    name: str
    reason: str
    values: tuple[str, ...]
    """All possible values, the likeliest first; empty if there are too many to list."""
    example: str
    """A value that fits the weights. It is no guess."""
    dependents: tuple[str, ...] = ()
    """Fields that follow from this one."""


class SpecError(InputError):
    open: tuple[OpenField, ...] = ()
    """The fields that must be given, if that is the error."""


class DataError(InputError):
    pass


class OutputError(InputError):
    pass


class BundleError(InputError):
    pass


class TraceError(InputError):
    pass


class EngineError(InputError):
    pass


class MissingError(ParaexportError):
    exit_code = 3


NO_MEMORY = re.compile(
    r"bad_alloc|bad allocation|out of memory|(?:failed to|can't|cannot|could not) allocate", re.IGNORECASE
)
"""Matches the messages of libraries that run out of memory. Each library has its own exception class for it."""
MOST_CHARACTERS = 300
MOST_SHOWN = 60


def printable(text: str) -> str:
    """`text` with line ends and control characters as escapes.

    The names of files may hold such characters, and they could control a terminal.
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def on_one_line(text: object) -> str:
    """The text on one line, with single spaces. Libraries often write several aligned lines."""
    return " ".join(str(text).split())


def first_line(error: BaseException) -> str:
    """The class of an error and the first line of its message: `ValueError: too large`."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:MOST_CHARACTERS]}" if lines else type(error).__name__


def shortlist(items: Sequence[str], most: int = 20) -> str:
    """The first items, and how many more there are: `a, b, and 3 more`."""
    more = f", and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def brief(value: object) -> str:
    """`repr(value)`, cut to `MOST_SHOWN` characters: a number may have millions of digits."""
    try:
        text = repr(value)
    except Exception:  # the object's own code fails, or a number has more digits than Python prints
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def lack_of_memory(
    error: Exception, where: object = None, remedy: str = "free memory, or build with a lower --max-batch"
) -> MissingError | None:
    """A `MissingError` if the error of a library reports too little memory; None for other errors."""
    message = on_one_line(error)
    if not isinstance(error, MemoryError) and not NO_MEMORY.search(message):
        return None
    got = message[-MOST_CHARACTERS:] or None
    return MissingError("there is not enough memory", where=where, got=got, remedy=remedy)


def translate_error(
    error: Exception, kind: type[ParaexportError], what: str, where: object, named: Callable[[str], str] = str
) -> ParaexportError:
    """Turn the error of a runtime into a `kind`, or into a `MissingError` if memory was too little.

    Args:
        named: replaces the paths that the runtime got by the user's own paths.
    """
    got = named(on_one_line(error))[:MOST_CHARACTERS]
    return lack_of_memory(error, where) or kind(what, where=where, got=got)
