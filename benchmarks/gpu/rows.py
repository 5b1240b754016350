"""The rows of `benchmarks.gpu.check`, as CSV and as a page."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.gpu.gates import Gate
from benchmarks.gpu.run_tests import Tests
from benchmarks.harness import machine
from benchmarks.harness.ceilings import Ceilings
from paraexport.errors import ParaexportError
from paraexport.targets.trt.device import find_device

SKIPPED = "skipped: "
MOST_CHARACTERS = 300
"""Of a note."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One thing that was measured, or skipped and why."""

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
    """Of one execution context."""
    engine_bytes: int | None = None
    """The compiled engine, weights and all."""
    used_bytes: int | None = None
    """Memory of the GPU that the open session took, once it had run; of PyTorch, the peak of its allocator."""
    gflop: float | None = None
    """Of the products of the graph, for the whole batch; then the bytes that they read and write."""
    moved_mb: float | None = None
    floor_ms: float | None = None
    """What these take at least, by the ceilings of this run."""
    attained: float | None = None
    """The fraction of the roofline: the floor by the latency."""
    passed: bool | None = None
    """None of what did not run, and of peers."""
    note: str = ""


def skipped(row: Row, reason: str) -> Row:
    return dataclasses.replace(row, note=f"{SKIPPED}{reason}")


def told(error: Exception) -> str:
    """What went wrong, on one line."""
    kind = "" if isinstance(error, ParaexportError) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(str(error).split())}"[:MOST_CHARACTERS]


def left_out(found: Sequence[Row]) -> Iterator[str]:
    """One line a reason, with all that was skipped for it."""
    reasons: dict[str, list[str]] = {}
    for row in found:
        if row.note.startswith(SKIPPED):
            what = f"{row.part}: {row.contestant}, {row.precision}, L = {row.branches}, M = {row.depth}"
            reasons.setdefault(row.note.removeprefix(SKIPPED), []).append(what)
    for reason, skips in reasons.items():
        yield f"- {reason}: {'; '.join(skips)}"


def write(
    folder: Path, found: Sequence[Row], where: machine.Machine, ceiling: Ceilings | str, judged: Sequence[Gate | Tests]
) -> None:
    names = [field.name for field in dataclasses.fields(Row)]
    with (folder / "gpu.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([names, *(dataclasses.astuple(row) for row in found)])
    rows = [names, ["-"] * len(names), *([text(value) for value in dataclasses.astuple(row)] for row in found)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in rows)
    ceiling_table = f"No ceilings: {ceiling}." if isinstance(ceiling, str) else ceiling.table()
    parts = (
        f"# On a GPU: {find_device()}",
        f"`make gpu-check`. {where.line()}.",
        ceiling_table,
        "\n".join(f"- {gate}" for gate in judged),
        table,
        "\n".join(["Left out:", "", *([*left_out(found)] or ["- nothing"])]),
    )
    page = "\n\n".join(parts) + "\n"
    (folder / "gpu.md").write_text(page, encoding="utf-8")


def text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "\\|")
