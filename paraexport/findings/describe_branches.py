"""Describes what each branch is worth, and what the first branches do alone."""

from __future__ import annotations

from collections.abc import Iterator

from paraexport.findings.branches import BranchReport, BranchWorth, FirstBranches
from paraexport.findings.document import Cell, Line, Section, Table, number
from paraexport.findings.words import counted, size_text

REDUNDANT = 0.95
"""Two branches whose similarity is at least this high are named."""
MOST_PAIRS = 5


def branches(report: BranchReport | None) -> Iterator[Section]:
    """Describe each branch: its share of the answers, the answers without it, and its cost."""
    if report is None:
        return
    head = (
        "branch", "share of the answer", "", "top-1 % without", "same answer % without", "multiply-adds", "of all %",
        "weights", "error in this precision",
    )  # fmt: skip
    everything = report.shared_multiply_adds + sum(branch.multiply_adds for branch in report.branches)
    largest = max(abs(branch.contribution) for branch in report.branches) or 1.0
    rows = tuple(branch_row(branch, everything, largest) for branch in report.branches)
    shown = [place for place in range(len(head)) if place < 3 or any(row[place].text != "-" for row in rows)]
    table = Table(tuple(head[place] for place in shown), tuple(tuple(row[place] for place in shown) for row in rows))
    base = f"with all branches: {100 * report.accuracy:.2f} %; " if report.accuracy is not None else ""
    about = (
        Line(f"{base}measured in PyTorch on {counted(report.images, 'image')}"),
        Line("share of the answer: the branch's part of the winning logit above the mean of all logits"),
    )
    yield Section("Branches", (*about, table, *map(Line, redundancy(report))))


def branch_row(branch: BranchWorth, everything: int, largest: float) -> tuple[Cell, ...]:
    cost = branch.multiply_adds
    return (
        Cell(branch.name),
        Cell(f"{100 * branch.contribution:.1f} %", is_number=True),
        Cell("", bar=max(branch.contribution, 0.0) / largest),
        percent(branch.accuracy_without),
        percent(branch.agreement_without),
        Cell(f"{cost:,}" if cost else "-", is_number=True),
        Cell(f"{100 * cost / everything:.1f}" if cost else "-", is_number=True),
        Cell(size_text(branch.weights_bytes), is_number=True),
        number(branch.precision_error),
    )


def redundancy(report: BranchReport) -> Iterator[str]:
    """Name the pairs of branches that are most alike."""
    count = len(report.branches)
    pairs = sorted(
        ((report.similarity[one][other], one, other) for one in range(count) for other in range(one)), reverse=True
    )
    alike = [pair for pair in pairs if pair[0] >= REDUNDANT]
    for value, one, other in (alike or pairs)[: MOST_PAIRS if alike else 1]:
        names = f"{report.branches[other].name} and {report.branches[one].name}"
        if alike:
            yield f"{names} hold nearly the same information (linear CKA {value:.2f}): one may be redundant"
        else:
            yield f"most alike: {names}, linear CKA {value:.2f}; 1 means the same information"


def first_branches(report: BranchReport | None, *, measured: bool = False) -> Iterator[Section]:
    """Describe the first k branches alone. With `measured`, only those whose latency was measured."""
    if report is None:
        return
    shown = [first for first in report.first if not measured or first.latency_ms is not None]
    if len(shown) < 2 and measured:
        return
    head = ("branches", "top-1 %", "same answer %", "ms, one image", "size")
    rows = tuple(map(first_row, shown))
    columns = [place for place in range(len(head)) if any(row[place].text != "-" for row in rows)]
    table = Table(
        tuple(head[place] for place in columns), tuple(tuple(row[place] for place in columns) for row in rows)
    )
    about = Line(f"answers in PyTorch on {counted(report.images, 'image')}; latency here, a rough measurement")
    yield Section("The first branches alone", (about, table))


def first_row(first: FirstBranches) -> tuple[Cell, ...]:
    size = "-" if first.model_bytes is None else size_text(first.model_bytes)
    return (
        Cell(f"{first.branches}", is_number=True),
        percent(first.accuracy),
        percent(first.agreement),
        number(first.latency_ms),
        Cell(size, is_number=True),
    )


def percent(share: float | None) -> Cell:
    return Cell("-" if share is None else f"{100 * share:.2f}", is_number=True)
