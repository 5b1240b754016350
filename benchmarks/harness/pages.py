"""Writes what a contest gave: NAME.csv with its rows, NAME.json with machine and command, NAME.md to be read."""

from __future__ import annotations

import csv
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.harness.bursts import Timing
from benchmarks.harness.contest import Row
from benchmarks.harness.machine import Machine

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


@dataclasses.dataclass(frozen=True)
class Header:
    """What every row of a file has in common."""

    command: str
    machine: Machine
    timing: Timing
    model: str
    took_s: float


def write(
    folder: Path, name: str, rows: Sequence[Row], header: Header, *, more: str = "", picture: bool = True
) -> None:
    """`more` is what the page says beside the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / f"{name}.csv", Row, rows)
    text = msgspec.json.format(msgspec.json.encode(header), indent=2)
    (folder / f"{name}.json").write_bytes(text + b"\n")
    (folder / f"{name}.md").write_text(page(name, rows, header, picture=picture) + more, encoding="utf-8")


def write_csv(path: Path, kind: type, rows: Sequence[object]) -> None:
    """One line for each of `rows`, all of the dataclass `kind`."""
    names = [field.name for field in dataclasses.fields(kind)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            writer.writerow(shortened(getattr(row, name)) for name in names)


def page(name: str, rows: Sequence[Row], header: Header, *, picture: bool = True) -> str:
    timing, drawn = header.timing, f"![{name}]({name}.svg)\n\n" if picture else ""
    return f"""# {name}: {header.model}

`{header.command}`, {header.took_s:.0f} s, {timing.rounds} bursts of {timing.burst_ms:.0f} ms each.
{header.machine.line()}.

{drawn}{table(rows)}"""


def command() -> str:
    """The command line that is running, for the header."""
    spec = sys.modules["__main__"].__spec__
    return shlex.join(["python", "-m", spec.name if spec else sys.argv[0], *sys.argv[1:]])


def shortened(value: object) -> object:
    return f"{value:.5g}" if isinstance(value, float) else "" if value is None else value


def table(rows: Sequence[Row]) -> str:
    """Rows of one or several contests as a Markdown table for each, failed ones included."""
    parts = []
    for key in dict.fromkeys((row.branches, row.depth, row.batch) for row in rows):
        branches, depth, batch = key
        of_contest = [row for row in rows if (row.branches, row.depth, row.batch) == key]
        lines = [[*COLUMNS], ["-"] * len(COLUMNS), *map(cells, of_contest)]
        notes = [f"{row.contestant}: {row.note}." for row in of_contest if row.note and row.latency_ms is not None]
        body = "\n".join(f"| {' | '.join(line)} |" for line in aligned(lines))
        parts.append("\n\n".join([f"L = {branches}, M = {depth}, batch {batch}", body, *notes]))
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


def aligned(lines: list[list[str]]) -> list[list[str]]:
    """Padded for the eye, but for what is longer than a table has room for."""
    widths = [max(min(len(cell), 24) for cell in column) for column in zip(*lines, strict=True)]
    return [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
