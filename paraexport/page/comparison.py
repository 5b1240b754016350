"""Writes one page that compares the reports of several bundles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress

from paraexport import __version__
from paraexport.bundle.records import Report, Subject
from paraexport.errors import InputError
from paraexport.findings.document import Cell, Chart, Line, Section, Series, Table, Tone, number
from paraexport.findings.words import counted, percent, size_text
from paraexport.page.environment import render


@dataclass(frozen=True)
class Row:
    """One bundle of a comparison, as `--json` prints it."""

    name: str
    target: str
    precision: str
    layout: str
    source: str
    sha256: str
    """The digest of the checkpoint."""
    branches: tuple[int, ...] | None
    """The branches of the checkpoint in use, counted from 0; None for a module that is no known Para-Former."""
    accuracy: float | None
    """Top-1, 0 to 1; None without labels."""
    same_answers: float | None
    """The share of images with PyTorch's answer, 0 to 1."""
    model_bytes: int | None
    latency_ms: float | None
    """A first look at one image; None if the engine did not run."""
    checks_passed: int
    checks: int
    cautions: int
    """Assumptions and warnings."""
    images: str
    """The images of the checks."""
    machine: str


def row(report: Report) -> Row:
    """Take the figures of a comparison from a report. The report must have a `subject`."""
    subject, look, accuracy = report.subject, report.first_look, report.accuracy
    assert subject is not None
    disagreement = next((check.value for check in report.checks if check.name == "disagreement"), None)
    return Row(
        name=report.bundle or subject.source.name,
        target=subject.target,
        precision=subject.precision,
        layout=subject.layout,
        source=subject.source.name,
        sha256=subject.source.sha256,
        branches=branches_of(subject),
        accuracy=None if accuracy is None else accuracy.engine_correct / accuracy.images,
        same_answers=None if disagreement is None else 1 - disagreement / 100,
        model_bytes=look.model_bytes if look else None,
        latency_ms=look.engine_ms if look else None,
        checks_passed=sum(check.passed is True for check in report.checks),
        checks=len(report.checks),
        cautions=len(report.assumptions) + len(report.warnings) + report.made_up,
        images=report.evidence,
        machine=report.machine,
    )


def branches_of(subject: Subject) -> tuple[int, ...] | None:
    """The branches of the checkpoint that a bundle uses."""
    if subject.source.branches is not None or subject.spec is None:
        return subject.source.branches
    return tuple(range(subject.spec.branches))


def branches_text(branches: tuple[int, ...] | None) -> str:
    """(0, 1, 2) -> `first 3`; (2, 0) -> `2, 0`."""
    if branches is None:
        return "-"
    return f"first {len(branches)}" if branches == tuple(range(len(branches))) else ", ".join(map(str, branches))


def require_same_model(reports: Sequence[Report]) -> None:
    """Raise an `InputError` if bundles were built from different checkpoints."""
    sources: dict[str, list[str]] = {}
    for report in reports:
        assert report.subject is not None
        source = report.subject.source
        sources.setdefault(source.sha256, []).append(f"{report.bundle} from {source.name}")
    if len(sources) > 1:
        raise InputError(
            "the bundles hold different models",
            expected="bundles of one checkpoint",
            got="; ".join(names[0] for names in sources.values()),
            remedy="give --different-models to compare them all the same",
        )


def page(reports: Sequence[Report]) -> str:
    """Return the page."""
    rows = [row(report) for report in reports]
    names = list(dict.fromkeys(entry.source for entry in rows))
    sources = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    peers = {(peer.sha256, peer.branches): peer for peer in map(pytorch, reports) if peer is not None}
    return render(
        "comparison.html.jinja",
        title="comparison",
        headline=f"{counted(len(rows), 'bundle')} of {sources}",
        cautions=[*cautions(rows)],
        sections=[*sections([*peers.values(), *rows])],
        version=__version__,
    )


def pytorch(report: Report) -> Row | None:
    """The checkpoint in PyTorch, as a row to compare with; None if the report has no figures of it."""
    subject, look, accuracy = report.subject, report.first_look, report.accuracy
    assert subject is not None
    if look is None:
        return None
    correct = accuracy.pytorch_correct if accuracy else None
    return Row(
        name=subject.source.name,
        target="PyTorch",
        precision="fp32",
        layout="",
        source=subject.source.name,
        sha256=subject.source.sha256,
        branches=branches_of(subject),
        accuracy=correct / accuracy.images if accuracy and correct is not None else None,
        same_answers=None,
        model_bytes=look.checkpoint_bytes,
        latency_ms=look.pytorch_ms,
        checks_passed=0,
        checks=0,
        cautions=0,
        images=report.evidence,
        machine=report.machine,
    )


def cautions(rows: Sequence[Row]) -> Iterator[str]:
    """Reasons why the figures cannot be compared."""
    if len({entry.machine for entry in rows}) > 1:
        machines = "; ".join(dict.fromkeys(entry.machine for entry in rows))
        yield f"latencies were measured on different machines: {machines}"
    if len({entry.images for entry in rows}) > 1:
        images = "; ".join(dict.fromkeys(entry.images for entry in rows))
        yield f"accuracy was measured on different images: {images}"
    if len({entry.sha256 for entry in rows}) > 1:
        yield "the bundles hold different models"


def sections(rows: Sequence[Row]) -> Iterator[Section]:
    """The table, and latency and size against accuracy."""
    yield Section(
        "All bundles", (table(rows), Line("latency of one image is a rough measurement; use paraexport bench"))
    )
    charts = tuple(chart for chart in (against(rows, "latency"), against(rows, "size")) if chart is not None)
    if charts:
        yield Section("Accuracy against latency and size", charts)


def table(rows: Sequence[Row]) -> Table:
    most_ms = max((entry.latency_ms or 0 for entry in rows), default=0) or 1.0
    most_bytes = max((entry.model_bytes or 0 for entry in rows), default=0) or 1
    head = (
        "bundle", "branches", "target", "precision", "layout", "accuracy", "same answers", "latency, ms", "", "size",
        "", "checks passed", "cautions",
    )  # fmt: skip
    shown = [name != "branches" or len({entry.branches for entry in rows}) > 1 for name in head]
    cells = (table_row(entry, most_ms, most_bytes) for entry in rows)
    return Table(tuple(compress(head, shown)), tuple(tuple(compress(row, shown)) for row in cells))


def table_row(entry: Row, most_ms: float, most_bytes: int) -> tuple[Cell, ...]:
    tone: Tone = "bad" if entry.cautions else ""
    size = "-" if entry.model_bytes is None else size_text(entry.model_bytes)
    return (
        Cell(entry.name), Cell(branches_text(entry.branches)), Cell(entry.target), Cell(entry.precision),
        Cell(entry.layout),
        Cell(percent(entry.accuracy, 2), is_number=True), Cell(percent(entry.same_answers, 2), is_number=True),
        number(entry.latency_ms), Cell("", bar=(entry.latency_ms or 0) / most_ms),
        Cell(size, is_number=True), Cell("", bar=(entry.model_bytes or 0) / most_bytes),
        Cell(f"{entry.checks_passed} of {entry.checks}" if entry.checks else ""),
        Cell(f"{entry.cautions}" if entry.checks else "", tone, is_number=True),
    )  # fmt: skip


def against(rows: Sequence[Row], what: str) -> Chart | None:
    """Accuracy, or the share of same answers, over latency or size; None if too few bundles have both."""
    kind = "accuracy" if any(entry.accuracy is not None for entry in rows) else "same answers"
    points = []
    for entry in rows:
        y = entry.accuracy if kind == "accuracy" else entry.same_answers
        x = entry.latency_ms if what == "latency" else entry.model_bytes
        if x is not None and y is not None:
            points.append((x if what == "latency" else x / 1e6, 100 * y, entry.name))
    if len(points) < 2:
        return None
    unit = "ms for one image" if what == "latency" else "MB"
    x_values, y_values, names = zip(*points, strict=True)
    return Chart(f"{kind} against {what}", unit, f"{kind}, %", x_values, (Series(kind, y_values),), names)
