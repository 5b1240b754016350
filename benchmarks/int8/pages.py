"""Writes what `benchmarks.int8.peers` found: its rows, a page with both tables, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import pages
from benchmarks.harness.contest import Row
from benchmarks.harness.pages import Header, aligned, number
from benchmarks.int8.accuracy import Accuracy

NAME = "int8"
COLUMNS = ("contestant", "correct", "points lost", "other top-1", "agreement", "largest error", "rms error")


def write(folder: Path, rows: Sequence[Row], found: Sequence[Accuracy], header: Header) -> None:
    """`int8.csv` and the rest with the latencies, `int8-accuracy.csv`, and both on `int8.md`."""
    from benchmarks.int8.pictures import draw_int8

    more = f"\n## Accuracy\n\nErrors are |Δ logit| against PyTorch in float32.\n\n{table(found)}"
    pages.write(folder, NAME, rows, header, more=more)
    pages.write_csv(folder / f"{NAME}-accuracy.csv", Accuracy, found)
    draw_int8(rows, found, header, folder / NAME)


def table(found: Sequence[Accuracy]) -> str:
    """A Markdown table for each test set, failed rows included."""
    parts = []
    for key in dict.fromkeys((one.model, one.test) for one in found):
        of_test = [one for one in found if (one.model, one.test) == key]
        first = of_test[0]
        lines = [[*COLUMNS], ["-"] * len(COLUMNS), *map(cells, of_test)]
        body = "\n".join(f"| {' | '.join(line)} |" for line in aligned(lines))
        notes = [f"{one.contestant}: {one.note}." for one in of_test if one.note and one.correct is not None]
        right = f"PyTorch is right in {first.pytorch_correct} of {first.images}"
        parts.append("\n\n".join([f"{first.model}, {first.test}; {right}", body, *notes]))
    return "\n\n".join(parts) + "\n"


def cells(one: Accuracy) -> list[str]:
    if one.correct is None:
        return [one.contestant, one.note, *[""] * (len(COLUMNS) - 2)]
    return [
        one.contestant,
        str(one.correct),
        number(one.points_lost, ".2f"),
        str(one.differing),
        f"{number(one.agreement, '.2f')} %",
        number(one.largest_error, ".2g"),
        number(one.rms_error, ".2g"),
    ]
