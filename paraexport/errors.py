"""What can go wrong, and the exit code of the command line for it.

ParaexportError
├── CheckFailed            1   the artefact does not answer as PyTorch does
├── InputError             2   bad usage or bad input (also a ValueError)
│   ├── CheckpointError        a file that is no checkpoint, or one that contradicts itself
│   ├── SpecError              a field of the spec is missing, unknown or impossible
│   ├── DataError              images or labels that cannot be used
│   ├── OutputError            a path that cannot be written, or must not be
│   ├── BundleError            a bundle that is incomplete, changed or too new
│   ├── TraceError             a model that cannot be expressed as ONNX
│   └── EngineError            a graph or an option that the target cannot compile or run
└── MissingError           3   the target needs something that is not on this machine
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paraexport.findings.bisection import Bisection
    from paraexport.findings.checks import Check


class ParaexportError(Exception):
    """One line: what happened, where, what was expected, what came instead, and the remedy.

    Every part is an attribute, so that a program can read what a person reads.
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


class CheckFailed(ParaexportError):
    exit_code = 1
    checks: tuple[Check, ...] = ()
    """All that ran, passed or not."""
    bisection: Bisection | None = None
    """Where the graph is right and what the target made of it is not: which part of it."""


class InputError(ParaexportError, ValueError):
    exit_code = 2


class CheckpointError(InputError):
    pass


class SpecError(InputError):
    pass


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
"""So libraries say it, each in an exception of its own."""
MOST_CHARACTERS = 300
MOST_SHOWN = 60


def printable(text: str) -> str:
    """`text` with line ends, and what could steer a terminal, written as escapes: names of files may hold them."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def on_one_line(text: object) -> str:
    """What libraries say in several lines, or with spaces to line it up."""
    return " ".join(str(text).split())


def brief(value: object) -> str:
    """A value that somebody gave, as Python writes it; shortened, since a number may have millions of digits."""
    try:
        text = repr(value)
    except Exception:  # an object's own code, or more digits than Python prints
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def lack_of_memory(
    error: Exception, where: object = None, remedy: str = "free memory, or build with a lower --max-batch"
) -> MissingError | None:
    """A library's own error as one of ours, where it says that memory was too little."""
    said = on_one_line(error)
    if not isinstance(error, MemoryError) and not NO_MEMORY.search(said):
        return None
    return MissingError("there is not enough memory", where=where, got=said[-MOST_CHARACTERS:] or None, remedy=remedy)


def of_runtime(
    error: Exception, kind: type[ParaexportError], what: str, where: object, named: Callable[[str], str] = str
) -> ParaexportError:
    """A runtime's own error as one of ours: of this kind, unless memory was too little.

    `named` puts the user's names of files in the place of those that the runtime was given.
    """
    said = named(on_one_line(error))[:MOST_CHARACTERS]
    return lack_of_memory(error, where) or kind(what, where=where, got=said)
