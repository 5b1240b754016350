"""Prints sections, tables and lines in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, TextIO

from paraexport.errors import on_one_line, printable
from paraexport.findings.document import Block, Cell, Line, Section, Table

if TYPE_CHECKING:
    from rich.console import Console

Justify = Literal["left", "right"]
NOT_WRAPPED = 10_000
"""The width if the output is not a terminal, so that no line is wrapped."""
STYLES = {"": "", "good": "green", "bad": "red", "note": "yellow"}


def console(stream: TextIO) -> Console:
    from rich.console import Console

    width = None if stream.isatty() else NOT_WRAPPED
    return Console(file=stream, markup=False, highlight=False, emoji=False, width=width)


def line_of(text: object) -> str:
    """Put a text on one line, and escape everything that could control a terminal."""
    return printable(on_one_line(text))


def print_sections(sections: Iterable[Section]) -> None:
    """Print each section after an empty line, under its title."""
    for section in sections:
        print_text(f"\n{section.title}", "bold")
        print_blocks(section.blocks)


def print_blocks(blocks: Iterable[Block]) -> None:
    for block in blocks:
        if isinstance(block, Line):
            print_text(line_of(block.text), STYLES[block.tone])
        elif isinstance(block, Table):
            print_table(block)


def print_text(text: str, style: str) -> None:
    console(sys.stdout).print(text, style=style or None, soft_wrap=True)


def print_table(table: Table) -> None:
    """Print a table without lines, and without empty columns."""
    from rich.table import Table as Grid
    from rich.text import Text

    rows = table.rows if table.brief is None else table.rows[: table.brief]
    texts = [[brief(cell) for cell in row] for row in rows]
    heads = table.head or ("",) * len(rows[0] if rows else ())
    shown = [index for index, head in enumerate(heads) if head or any(row[index] for row in texts)]
    grid = Grid(box=None, show_header=any(heads), pad_edge=False, header_style="bold")
    for index in shown:
        justify: Justify = "right" if all(row[index].is_number for row in rows) else "left"
        grid.add_column(heads[index], overflow="fold", no_wrap=index == 0 and len(heads) > 1, justify=justify)
    for row, cells in zip(texts, rows, strict=True):
        grid.add_row(*(Text(row[index], style=STYLES[cells[index].tone]) for index in shown))
    screen = console(sys.stdout)
    with screen.capture() as captured:
        screen.print(grid)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))
    if len(rows) < len(table.rows):
        print(f"… and {len(table.rows) - len(rows)} more, listed in the report")


def brief(cell: Cell) -> str:
    return line_of(cell.text if cell.brief is None else cell.brief)
