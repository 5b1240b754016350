"""The rows of `benchmarks.gpu.check`, and how they are written as CSV and as a page."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.gpu.gates import Gate
from benchmarks.gpu.run_tests import Tests
from benchmarks.harness import machine, pages
from benchmarks.harness.ceilings import Ceilings
from paraexport.errors import ParaexportError
from paraexport.targets.trt.device import find_device

SKIPPED = "skipped: "
NOTE_CHARACTERS = 300
"""The most in a note."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement. If it was skipped, `note` gives the reason."""

    part: str
    contestant: str
    precision: str
    branches: int
    depth: int
    batch: int = 0
    latency_ms: float | None = None
    error: float | None = None
    """max |Δ logit| / max |logit| against PyTorch on the CPU in float32."""
    memory_bytes: int | None = None
    """Memory of one execution context."""
    engine_bytes: int | None = None
    """Size of the compiled engine with its weights."""
    used_bytes: int | None = None
    """Memory of the GPU that the open session uses after a run. For PyTorch, the peak of its allocator."""
    gflop: float | None = None
    """Operations of the products in the graph, for the whole batch. Then the MB that they read and write."""
    moved_mb: float | None = None
    floor_ms: float | None = None
    """The least time for these, with the ceilings of this run."""
    attained: float | None = None
    """The fraction of the roofline: the floor divided by the latency."""
    passed: bool | None = None
    """None for peers, and for what did not run."""
    note: str = ""


def skipped(row: Row, reason: str) -> Row:
    return dataclasses.replace(row, note=f"{SKIPPED}{reason}")


def describe_error(error: Exception) -> str:
    """The error on one line."""
    kind = "" if isinstance(error, ParaexportError) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(str(error).split())}"[:NOTE_CHARACTERS]


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
