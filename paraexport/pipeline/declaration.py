"""Declares options as dataclass fields with type, default, help text and range.

`Options` consists of such fields. The Python function, the command line, the checks and the cache key are made from
them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from paraexport.errors import InputError, brief

KEY = "paraexport"
"""The key of the declaration in the metadata of a field."""


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """The properties of an option besides its type and default."""

    help: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    flag: str = ""
    """The name on the command line, if it is not `--` and the name of the field."""


@dataclass(frozen=True)
class Option:
    """An option of `Options`."""

    name: str
    kind: Any
    """The type of its values: `str`, `int | None`, `Mapping[str, str]`, …"""
    default: Any
    declaration: Declaration

    @property
    def flag(self) -> str:
        no = "no-" if self.default is True else ""
        return self.declaration.flag or f"--{no}{self.name.replace('_', '-')}"

    def check(self, value: object) -> None:
        """Raise an `InputError` for a value that the declaration does not allow.

        Raises:
            InputError: the value is not one of the choices, not a whole number, out of range, or not an existing file.
        """
        declaration = self.declaration
        if declaration.choices:
            if value not in declaration.choices:
                expected = f"one of {', '.join(declaration.choices)}"
                raise InputError(f"unknown {self.name}", where=self.flag, expected=expected, got=brief(value))
        elif value is None and self.default is None:
            return
        elif self.kind in (int, int | None):
            is_whole = isinstance(value, int) and not isinstance(value, bool)
            if not (is_whole and declaration.least <= value <= declaration.most):  # type: ignore[operator]
                expected = f"a whole number, at least {declaration.least}, at most {declaration.most}"
                raise InputError("invalid value", where=self.flag, expected=expected, got=brief(value))
        elif self.kind in (Path, Path | None) and not Path(str(value)).exists():
            raise InputError("there is no such file or folder", where=f"{self.flag} {value}", remedy="check the path")


def option(default: Any, help: str, **properties: Any) -> Any:  # noqa: A002 (click's name)
    """Declare a dataclass field that is an option. If the default is a type, it is called for every new instance."""
    metadata = {KEY: Declaration(help=help, **properties)}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def declared_options(kind: type) -> Iterator[Option]:
    """List the options that a dataclass declares, in order."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.default_factory is dataclasses.MISSING:
            default = field.default
        else:
            default = field.default_factory()
        yield Option(field.name, hints[field.name], default, field.metadata[KEY])


def documented(kind: type, indent: str) -> str:
    """Write the options as lines of a docstring."""
    return "\n".join(f"{indent}{entry.name}: {entry.declaration.help}" for entry in declared_options(kind))
