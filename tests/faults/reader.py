"""A reader of files from outside: where its good files come from, how they are damaged, and what may become of them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.faults.mutation import mutate

MEMORY_MB = 512
"""How much the peak of a process may grow while it reads small damaged files, unless a reader states another bound."""


@dataclass(frozen=True)
class Reader:
    """One kind of input, and the function of the package that reads it.

    A read may succeed, or raise what the command line reports with exit code 2 or 3. It reports any other exception
    as a bug in paraexport, so that fails the campaign. So do a crash, a read of over 20 seconds and too much memory.
    """

    name: str
    seeds: Callable[[Path], Sequence[bytes]]
    """(an empty folder to work in) -> good files, as bytes; the same ones every time."""
    read: Callable[[Path], object]
    """Read a damaged file, as a command would."""
    suffix: str
    """Of the file: `.pt`."""
    damage: Callable[[bytes, Random], bytes] = mutate
    """Change one of the seeds; formats that notice every flipped byte need changes of their own."""
    memory_mb: int = MEMORY_MB
    few: int = 150
    """Cases of the short campaign that runs with the tests; fewer where a read takes long."""


def all_readers() -> dict[str, Reader]:
    """Every `Reader` in a module's `READERS` below `tests/faults/readers`, by name."""
    from tests.faults import readers

    found = {}
    for module in sorted(pkgutil.iter_modules(readers.__path__), key=lambda module: module.name):
        for reader in importlib.import_module(f"{readers.__name__}.{module.name}").READERS:
            assert reader.name not in found, f"two readers are called {reader.name}"
            found[reader.name] = reader
    return found
