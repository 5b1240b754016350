"""How an option is declared: once, with its type, default, help text and range.

`Options` is a dataclass of such fields. The Python function, the command line, the checks and the cache key are made
from them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from paraexport.errors import InputError, brief

KEY = "paraexport"
"""Of the declaration among the metadata of a field."""


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What is said of an option besides its type and default."""

    help: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    flag: str = ""
    """Its name on the command line, when that is not `--` and the name of the field."""


@dataclass(frozen=True)
class Option:
    """One option of `Options`."""

    name: str
    kind: Any
    """The type of its values: `str`, `int | None`, `Mapping[str, str]`, …"""
    default: Any
    says: Declaration

    @property
    def flag(self) -> str:
        no = "no-" if self.default is True else ""
        return self.says.flag or f"--{no}{self.name.replace('_', '-')}"

    def check(self, value: object) -> None:
        """Raise an `InputError` for a value that the declaration does not allow.

        Raises:
            InputError: not one of the choices, no whole number, out of range, or no such file.
        """
        says = self.says
        if says.choices:
            if value not in says.choices:
                expected = f"one of {', '.join(says.choices)}"
                raise InputError(f"unknown {self.name}", where=self.flag, expected=expected, got=brief(value))
        elif value is None and self.default is None:
            return
        elif self.kind in (int, int | None):
            is_whole = isinstance(value, int) and not isinstance(value, bool)
            if not (is_whole and says.least <= value <= says.most):  # type: ignore[operator]
                expected = f"a whole number, at least {says.least}, at most {says.most}"
                raise InputError("impossible", where=self.flag, expected=expected, got=brief(value))
        elif self.kind in (Path, Path | None) and not Path(str(value)).exists():
            raise InputError("there is no such file or folder", where=f"{self.flag} {value}", remedy="check the path")


def option(default: Any, help: str, **says: Any) -> Any:  # noqa: A002 (what click calls it)
    """A field of a dataclass that is an option; a default that is a type makes a new value each time."""
    metadata = {KEY: Declaration(help=help, **says)}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def options_of(kind: type) -> Iterator[Option]:
    """The options that a dataclass declares, in order."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.default_factory is dataclasses.MISSING:
            default = field.default
        else:
            default = field.default_factory()
        yield Option(field.name, hints[field.name], default, field.metadata[KEY])


def documented(kind: type, indent: str) -> str:
    """The options as lines of a docstring."""
    return "\n".join(f"{indent}{one.name}: {one.says.help}" for one in options_of(kind))
