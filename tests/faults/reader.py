"""Defines a reader of foreign files: its good files, how they are damaged, and the allowed outcomes."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.faults.mutation import mutate

MEMORY_MB = 512
"""The allowed growth of peak memory while a process reads small damaged files, unless a reader has its own limit."""


@dataclass(frozen=True)
class Reader:
    """One kind of input, and the function of the package that reads it.

    A read may succeed, or raise an error with exit code 2 or 3. Any other exception is a bug in paraexport, and fails
    the campaign. So do a crash, a read of over 20 seconds, and too much memory.
    """

    name: str
    seeds: Callable[[Path], Sequence[bytes]]
    """(an empty folder to work in) -> good files, as bytes, the same every time."""
    read: Callable[[Path], object]
    """Read a damaged file, as a command would."""
    suffix: str
    """The suffix of the file: `.pt`."""
    damage: Callable[[bytes, Random], bytes] = mutate
    """Damages a good file. Formats with checksums need special damage, or every case is refused at once."""
    memory_mb: int = MEMORY_MB
    few: int = 150
    """The number of cases in the short campaign of the tests; less if a read is slow."""


def all_readers() -> dict[str, Reader]:
    """Every `Reader` in a module's `READERS` below `tests/faults/readers`, by name."""
    from tests.faults import readers

    readers_by_name = {}
    for module in sorted(pkgutil.iter_modules(readers.__path__), key=lambda module: module.name):
        for reader in importlib.import_module(f"{readers.__name__}.{module.name}").READERS:
            assert reader.name not in readers_by_name, f"two readers are called {reader.name}"
            readers_by_name[reader.name] = reader
    return readers_by_name
