"""Writes the rows of a bench as a section for the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from paraexport.bench.rows import Row
from paraexport.findings.document import Cell, Section, Table, number
from paraexport.findings.words import size_text
from paraexport.timing.percentiles import PERCENTS

FIRST = "the first"
HEAD = (
    "batch", "name", "beside", "mean ms", *(f"P{percent}" for percent in PERCENTS), "after rest", "images/s", "GMAC/s",
    "of ceiling", "size", "memory", "top-1 %", "same answer %", "note",
)  # fmt: skip


def table(rows: Sequence[Row], beside: str = FIRST) -> Table:
    """One line for each contestant and batch size; columns that are empty everywhere are left out.

    Args:
        beside: what the others are compared with.
    """
    lines = [cells(row) for row in rows]
    shown = [place for place in range(len(HEAD)) if any(line[place].text not in ("-", "") for line in lines)]
    head = tuple(f"beside {beside}" if HEAD[place] == "beside" else HEAD[place] for place in shown)
    return Table(head, tuple(tuple(line[place] for place in shown) for line in lines))


def cells(row: Row) -> tuple[Cell, ...]:
    tone = {"faster": "good", "slower": "bad"}.get(row.verdict, "")
    beside = "" if row.ratio is None else f"{row.verdict}, {row.ratio:.2f} times{between(row.ratio_interval)}"
    return (
        Cell(str(row.batch), is_number=True),
        Cell(row.name),
        Cell(beside, tone),  # type: ignore[arg-type]
        number(row.mean_ms),
        *(number(row.percentiles_ms.get(percent)) for percent in PERCENTS),
        number(row.after_rest_ms),
        Cell("-" if row.images_per_s is None else f"{row.images_per_s:,.0f}", is_number=True),
        number(None if row.multiply_adds_per_s is None else row.multiply_adds_per_s / 1e9),
        Cell("-" if row.of_ceiling is None else f"{100 * row.of_ceiling:.0f} %", is_number=True),
        size(row.size_bytes),
        size(row.peak_memory_bytes),
        number(row.accuracy),
        number(row.agreement),
        Cell(row.note, "note"),
    )


def between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" ({interval[0]:.2f} to {interval[1]:.2f})"


def size(size_bytes: int | None) -> Cell:
    return Cell("-" if size_bytes is None else size_text(size_bytes), is_number=True)


def section(rows: Sequence[Row], machine: str, beside: str = FIRST, streams: int = 1) -> Section:
    title = "Latency of one call" if streams == 1 else f"{streams} threads that call at the same time"
    return Section(f"{title}, on {machine}", (table(rows, beside),))


def as_markdown(rows: Sequence[Row], machine: str, beside: str = FIRST) -> str:
    content = table(rows, beside)
    lines = [
        content.head,
        tuple("-" for _ in content.head),
        *(tuple(cell.text for cell in row) for row in content.rows),
    ]
    return f"On {machine}.\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """One line for each row, with a column for each percentile."""
    stream = io.StringIO()
    names = [name for name in vars(rows[0]) if name not in ("percentiles_ms", "ratio_interval")]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*names, "ratio_low", "ratio_high", *(f"p{percent}_ms" for percent in PERCENTS)])
    for row in rows:
        percentiles = [
            *(row.ratio_interval or ("", "")),
            *(row.percentiles_ms.get(percent, "") for percent in PERCENTS),
        ]
        writer.writerow(["" if (value := getattr(row, name)) is None else value for name in names] + percentiles)
    return stream.getvalue()
