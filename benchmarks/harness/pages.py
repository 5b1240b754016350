"""Writes the rows of a contest: NAME.csv, NAME.md to read, and NAME.json with machine, command and rules."""

from __future__ import annotations

import csv
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.harness.contest import Row
from benchmarks.harness.machine import Machine
from paraexport.timing.contest import Rules

COLUMNS = (
    "contestant",
    "ms",
    "quartiles",
    "vs best peer",
    "GFLOP",
    "GFLOP/s",
    "of peak",
    "other CPUs",
    "error f32",
    "error f64",
)
WIDEST_CELL = 24
"""Longer cells are not padded."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What all rows of a file have in common."""

    command: str
    machine: Machine
    rules: Rules
    threads: int
    model: str
    took_s: float


def write(
    folder: Path, name: str, rows: Sequence[Row], header: Header, *, more: str = "", picture: bool = True
) -> None:
    """Write the three files; `more` is text to add at the end of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / f"{name}.csv", Row, rows)
    text = msgspec.json.format(msgspec.json.encode(header), indent=2)
    (folder / f"{name}.json").write_bytes(text + b"\n")
    (folder / f"{name}.md").write_text(page(name, rows, header, picture=picture) + more, encoding="utf-8")


def write_csv(path: Path, kind: type, rows: Sequence[object]) -> None:
    """Write one line for each row; `kind` is the dataclass of all rows."""
    names = [field.name for field in dataclasses.fields(kind)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            writer.writerow(csv_value(getattr(row, name)) for name in names)


def page(name: str, rows: Sequence[Row], header: Header, *, picture: bool = True) -> str:
    rules, image = header.rules, f"![{name}]({name}.svg)\n\n" if picture else ""
    return f"""# {name}: {header.model}

`{header.command}`, {header.took_s:.0f} s, {rules.rounds_text} bursts of {1e3 * rules.burst_s:.0f} ms each.
{header.machine.line()}.

{image}{table(rows)}"""


def command() -> str:
    """The command line that is running, for the header."""
    spec = sys.modules["__main__"].__spec__
    return shlex.join(["python", "-m", spec.name if spec else sys.argv[0], *sys.argv[1:]])


def csv_value(value: object) -> object:
    return f"{value:.5g}" if isinstance(value, float) else "" if value is None else value


def table(rows: Sequence[Row]) -> str:
    """A Markdown table for each contest, with the rows that failed."""
    parts = []
    for key in dict.fromkeys((row.branches, row.depth, row.batch) for row in rows):
        branches, depth, batch = key
        contest_rows = [row for row in rows if (row.branches, row.depth, row.batch) == key]
        lines = [[*COLUMNS], ["-"] * len(COLUMNS), *map(cells, contest_rows)]
        notes = [f"{row.contestant}: {row.note}." for row in contest_rows if row.note and row.latency_ms is not None]
        parts.append("\n\n".join([f"L = {branches}, M = {depth}, batch {batch}", markdown_table(lines), *notes]))
    return "\n\n".join(parts) + "\n"


def cells(row: Row) -> list[str]:
    if row.latency_ms is None:
        return [row.contestant, row.note, *[""] * (len(COLUMNS) - 2)]
    return [
        row.contestant,
        number(row.latency_ms, ".2f"),
        f"{number(row.quartile_1_ms, '.2f')} – {number(row.quartile_3_ms, '.2f')}",
        number(row.speedup, ".2f"),
        number(row.gflop, ".2f"),
        number(row.gflop_per_s, ".0f"),
        number(row.share_of_peak, ".0%"),
        number(row.other_cpus, ".2f"),
        number(row.error_vs_float32, ".0e"),
        number(row.error_vs_float64, ".0e"),
    ]


def number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as a table, padded so that its source can be read; a line of "-" follows the headings."""
    widths = [max(min(len(cell), WIDEST_CELL) for cell in column) for column in zip(*lines, strict=True)]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)
