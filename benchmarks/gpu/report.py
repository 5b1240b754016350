"""Writes the rows of `benchmarks.gpu.check` as CSV, and as a page with the verdicts."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.gpu.gates import Gate
from benchmarks.gpu.rows import SKIPPED, Row
from benchmarks.gpu.run_tests import Tests
from benchmarks.harness import machine, pages
from benchmarks.harness.ceilings import Ceilings
from paraexport.targets.trt.device import find_device


def skipped_lines(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each reason, with everything that was skipped because of it."""
    measurements: dict[str, list[str]] = {}
    for row in rows:
        if row.note.startswith(SKIPPED):
            measurement = f"{row.part}: {row.contestant}, {row.precision}, L = {row.branches}, M = {row.depth}"
            measurements.setdefault(row.note.removeprefix(SKIPPED), []).append(measurement)
    for reason, skips in measurements.items():
        yield f"- {reason}: {'; '.join(skips)}"


def write(
    folder: Path, rows: Sequence[Row], where: machine.Machine, ceiling: Ceilings | str, verdicts: Sequence[Gate | Tests]
) -> None:
    names = [field.name for field in dataclasses.fields(Row)]
    with (folder / "gpu.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([names, *(dataclasses.astuple(row) for row in rows)])
    lines = [names, ["-"] * len(names), *([text(value) for value in dataclasses.astuple(row)] for row in rows)]
    ceiling_table = f"No ceilings: {ceiling}." if isinstance(ceiling, str) else ceiling.table()
    parts = (
        f"# On a GPU: {find_device()}",
        f"`make gpu-check`. {where.line()}.",
        ceiling_table,
        "\n".join(f"- {verdict}" for verdict in verdicts),
        pages.markdown_table(lines),
        "\n".join(["Skipped:", "", *([*skipped_lines(rows)] or ["- nothing"])]),
    )
    page = "\n\n".join(parts) + "\n"
    (folder / "gpu.md").write_text(page, encoding="utf-8")


def text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "\\|")
