"""Writes the answers by class as sections: accuracy, and which classes are taken for which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from paraexport.findings.answers import AnswerReport, ClassAnswers
from paraexport.findings.document import Cell, Line, Section, Table, Tone, count
from paraexport.findings.words import counted, percent

LARGEST_MATRIX = 20
"""With more classes, the most frequent confusions are listed instead of a matrix."""


def classes(report: AnswerReport, names: Sequence[str]) -> Iterator[Section]:
    """Accuracy of each class, and the confusions; nothing without labels."""
    if not report.by_class:
        return
    hidden = report.classes - len(report.by_class)
    note = (Line(f"the {len(report.by_class)} least accurate of {report.classes} classes"),) if hidden else ()
    head = ("class", "images", "PyTorch", "bundle", "", "")
    rows = tuple(class_row(entry, names) for entry in report.by_class)
    yield Section("Accuracy of each class", (*note, Table(head, rows)))
    is_matrix = not hidden and len(names) <= LARGEST_MATRIX
    yield matrix(report, names) if is_matrix else pairs(report, names)


def class_row(entry: ClassAnswers, names: Sequence[str]) -> tuple[Cell, ...]:
    before, after = (correct / entry.images for correct in (entry.pytorch_correct, entry.engine_correct))
    lost = entry.pytorch_correct - entry.engine_correct
    tone: Tone = "bad" if lost > 0 else ""
    change = f"{counted(abs(lost), 'answer')} {'lost' if lost > 0 else 'gained'}" if lost else ""
    return (
        Cell(label(entry.number, names)), count(entry.images), Cell(percent(before), is_number=True),
        Cell(percent(after), tone, is_number=True), Cell("", bar=after), Cell(change, tone),
    )  # fmt: skip


def matrix(report: AnswerReport, names: Sequence[str]) -> Section:
    """A row for each true class, a column for each answer of the bundle."""
    counts = {(pair.truth, pair.answer): pair.engine for pair in report.confusions}
    counts |= {(entry.number, entry.number): entry.engine_correct for entry in report.by_class}
    images = {entry.number: entry.images for entry in report.by_class}
    rows = tuple(
        (
            Cell(label(truth, names)),
            *(
                matrix_cell(counts.get((truth, answer), 0), total, is_right=truth == answer)
                for answer in range(len(names))
            ),
        )
        for truth, total in images.items()
    )
    head = ("true class", *(label(number, names) for number in range(len(names))))
    line = "answers of the bundle: each row is a true class, each column an answer; wrong answers are off the diagonal"
    return Section("Confusion", (Line(line), Table(head, rows)))


def matrix_cell(images: int, total: int, *, is_right: bool) -> Cell:
    tone: Tone = "bad" if images and not is_right else ""
    return Cell(f"{images:,}" if images else "", tone, is_number=True, shade=images / total)


def pairs(report: AnswerReport, names: Sequence[str]) -> Section:
    """List the most frequent wrong answers."""
    if not report.confusions:
        return Section("Confusion", (Line("no wrong answer"),))
    rows = tuple(
        (Cell(label(pair.truth, names)), Cell(label(pair.answer, names)), count(pair.pytorch), count(pair.engine))
        for pair in report.confusions
    )
    return Section("Confusion", (Table(("true class", "answer", "images in PyTorch", "images in the bundle"), rows),))


def label(number: int, names: Sequence[str]) -> str:
    return names[number] or f"class {number}"
