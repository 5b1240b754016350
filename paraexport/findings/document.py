"""Defines sections, tables and lines for people. The terminal and the HTML report show the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from paraexport.findings.words import option_text

Tone = Literal["", "good", "bad", "note"]


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    tone: Tone = ""
    is_number: bool = False
    brief: str | None = None
    """A shorter text for the terminal."""
    bar: float | None = None
    """In HTML, draw a bar with this share of the full width, from 0 to 1, instead of the text."""
    shade: float | None = None
    """In HTML, colour the cell with this strength, from 0 to 1."""


@dataclass(frozen=True)
class Table:
    """Rows under a head; an empty head has no titles."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    brief: int | None = None
    """The number of rows that a terminal shows; None for all."""


@dataclass(frozen=True)
class Line:
    """A line of text."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Series:
    """Named numbers of a chart; None leaves a gap."""

    name: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Chart:
    """Lines or points over `x`, for HTML only: a table beside it has the same numbers for a terminal."""

    title: str
    x_title: str
    y_title: str
    x: tuple[float, ...]
    series: tuple[Series, ...]
    names: tuple[str, ...] = ()
    """The name of each point. With names, points are drawn instead of lines."""
    from_zero: bool = False
    """Whether the vertical axis begins at 0."""


Block: TypeAlias = Line | Table | Chart


@dataclass(frozen=True)
class Section:
    """Lines and tables about one subject, under a title."""

    title: str
    blocks: tuple[Block, ...]


def number(value: float | None) -> Cell:
    """Make a cell with three digits of a number; a dash for None."""
    return Cell("-" if value is None else f"{value:.3g}", is_number=True)


def count(value: int) -> Cell:
    return Cell(f"{value:,}", is_number=True)


def plain_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Make a table of texts and numbers without colours."""
    return Table(tuple(head), tuple(tuple(cell(value) for value in row) for row in rows))


def cell(value: object) -> Cell:
    if isinstance(value, int) and not isinstance(value, bool):
        return count(value)
    return Cell("-" if value is None else str(value))


def fields(values: Mapping[str, object]) -> Table:
    """Make a table of names and values."""
    return Table((), tuple((Cell(name), Cell(option_text(value))) for name, value in values.items()))


def lines(texts: Iterable[str], tone: Tone = "") -> tuple[Line, ...]:
    return tuple(Line(text, tone) for text in texts)
