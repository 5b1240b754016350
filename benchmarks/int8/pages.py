"""Writes the results of `benchmarks.int8.peers`: its rows, a page with both tables, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import pages
from benchmarks.harness.contest import Row
from benchmarks.harness.pages import Header, markdown_table, number
from benchmarks.int8.accuracy import Accuracy

NAME = "int8"
COLUMNS = ("contestant", "correct", "points lost", "other top-1", "agreement", "largest error", "rms error")


def write(folder: Path, rows: Sequence[Row], accuracies: Sequence[Accuracy], header: Header) -> None:
    """Write `int8.csv` and `int8.json` with latencies, `int8-accuracy.csv`, and `int8.md` with both."""
    from benchmarks.int8.pictures import draw_int8

    more = f"\n## Accuracy\n\nErrors are |Δ logit| against PyTorch in float32.\n\n{table(accuracies)}"
    pages.write(folder, NAME, rows, header, more=more)
    pages.write_csv(folder / f"{NAME}-accuracy.csv", Accuracy, accuracies)
    draw_int8(rows, accuracies, header, folder / NAME)


def table(accuracies: Sequence[Accuracy]) -> str:
    """A Markdown table for each test set, with the rows that failed."""
    parts = []
    for key in dict.fromkeys((row.model, row.test) for row in accuracies):
        test_rows = [row for row in accuracies if (row.model, row.test) == key]
        first = test_rows[0]
        lines = [[*COLUMNS], ["-"] * len(COLUMNS), *map(cells, test_rows)]
        notes = [f"{row.contestant}: {row.note}." for row in test_rows if row.note and row.correct is not None]
        right = f"PyTorch is right in {first.pytorch_correct} of {first.images}"
        parts.append("\n\n".join([f"{first.model}, {first.test}; {right}", markdown_table(lines), *notes]))
    return "\n\n".join(parts) + "\n"


def cells(row: Accuracy) -> list[str]:
    if row.correct is None:
        return [row.contestant, row.note, *[""] * (len(COLUMNS) - 2)]
    return [
        row.contestant,
        str(row.correct),
        number(row.points_lost, ".2f"),
        str(row.differing),
        f"{number(row.agreement, '.2f')} %",
        number(row.largest_error, ".2g"),
        number(row.rms_error, ".2g"),
    ]
