"""Charts and heat maps of branches: the first k of them, their similarity, and their errors in lower precision."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from paraexport.findings.branches import BranchReport
from paraexport.findings.document import Cell, Chart, Line, Section, Series, Table
from paraexport.findings.graphs import PartError

LAYER = re.compile(r"branches\.(\d+)/layers\.(\d+)")
MOST_MAPPED = 24
"""With more branches, their similarity is no heat map; the most similar ones are named in words."""
BRANCH = re.compile(r"branches\.(\d+)")


def charts(report: BranchReport | None) -> Iterator[Chart]:
    """Draw accuracy and latency of the model with only its first k branches."""
    if report is None or len(report.first) < 2:
        return
    k = tuple(float(entry.branches) for entry in report.first)
    shares = {
        "accuracy": tuple(entry.accuracy for entry in report.first),
        "same answer as all branches": tuple(entry.agreement for entry in report.first),
    }
    series = tuple(
        Series(name, tuple(None if value is None else 100 * value for value in values))
        for name, values in shares.items()
        if any(value is not None for value in values)
    )
    yield Chart("Answers of the first k branches", "branches k", "%", k, series)
    timed = [entry for entry in report.first if entry.latency_ms is not None]
    if len(timed) > 1:
        latency = Series("one image", tuple(entry.latency_ms for entry in timed))
        counts = tuple(float(entry.branches) for entry in timed)
        yield Chart("Latency of the first k branches", "branches k", "ms", counts, (latency,), from_zero=True)


def similarity(report: BranchReport | None) -> Iterator[Section]:
    """The similarity of each two branches, as a heat map."""
    if report is None or not 2 <= len(report.branches) <= MOST_MAPPED:
        return
    names = tuple(branch.name.removeprefix("branches.") for branch in report.branches)
    rows = tuple(
        (Cell(f"branch {name}"), *(Cell(f"{value:.2f}", is_number=True, shade=clipped(value)) for value in row))
        for name, row in zip(names, report.similarity, strict=True)
    )
    line = "linear CKA of the outputs of two branches: 1 means that both hold the same information"
    yield Section("How alike the branches are", (Line(line), Table(("", *names), rows)))


def errors(parts: Sequence[PartError]) -> Iterator[Section]:
    """The error of each branch and layer in lower precision, as a heat map; nothing if it was not measured."""
    by_layer = {(int(match[1]), int(match[2])): part for part in parts if (match := LAYER.fullmatch(part.part))}
    whole = {int(match[1]): part for part in parts if (match := BRANCH.fullmatch(part.part))}
    if not by_layer:
        return
    most = max(part.error for part in parts) or 1.0
    layers = sorted({layer for _, layer in by_layer})
    rows = tuple(
        (
            Cell(f"branch {branch}"),
            error_cell(whole.get(branch), most),
            *(error_cell(by_layer.get((branch, layer)), most) for layer in layers),
        )
        for branch in sorted({branch for branch, _ in by_layer} | whole.keys())
    )
    head = ("", "all its layers", *(f"layer {layer}" for layer in layers))
    line = "‖Δz‖ / ‖z‖ of the sum z over branches, if only this part runs in lower precision; * stays in float32"
    yield Section("Error of each branch and layer", (Line(line), Table(head, rows)))


def error_cell(part: PartError | None, most: float) -> Cell:
    if part is None:
        return Cell("-", is_number=True)
    return Cell(f"{part.error:.2g}{' *' if part.kept else ''}", is_number=True, shade=clipped(part.error / most))


def clipped(share: float) -> float:
    return min(1.0, max(0.0, share))
