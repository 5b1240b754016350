"""Writes `report.html`, the page of one bundle."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from paraexport.bundle import report as report_file
from paraexport.bundle import summary
from paraexport.bundle.records import Report, Subject
from paraexport.bundle.verdict import verdict
from paraexport.findings import branch_maps, describe, describe_answers, describe_branches, describe_costs
from paraexport.findings.answers import AnswerReport
from paraexport.findings.checks import Accuracy
from paraexport.findings.document import Section
from paraexport.findings.speed import FirstLook
from paraexport.findings.words import counted, percent, size_text
from paraexport.model.scores import class_names, recorded, text_of
from paraexport.page.drawing import drawing
from paraexport.page.environment import render

HTML = "report.html"


@dataclass(frozen=True)
class Figure:
    """A figure of the first screen, with the one of PyTorch beside it."""

    title: str
    here: str
    before: str
    note: str
    shares: tuple[float, float] | None = None
    """PyTorch and the bundle, each as a share of the larger one, for two bars."""


@dataclass(frozen=True)
class Chapter:
    """Sections about one subject."""

    name: str
    """The anchor of the chapter on the page."""
    title: str
    sections: tuple[Section, ...]


def write(folder: Path, report: Report) -> None:
    """Write `report.json` and the page of it into `folder`."""
    report_file.write(folder, report)
    (folder / HTML).write_text(page(report), encoding="utf-8")


def page(report: Report) -> str:
    """Return the page. The report must have a `subject`."""
    subject = report.subject
    assert subject is not None
    scores = recorded(subject.scores, len(subject.labels))
    return render(
        "report.html.jinja",
        subject=subject,
        report=report,
        title=report.bundle or subject.source.name,
        verdict=verdict(subject, report),
        introduction=summary.introduction(subject),
        heading=summary.heading(subject),
        figures=[*figures(report)],
        cautions=[*summary.cautions(report)],
        code=code(report.bundle or "model.bundle"),
        chapters=[chapter for chapter in chapters(subject, report) if chapter.sections or has_more(chapter, report)],
        drawing=drawing(subject, report),
        score_text=lambda score: text_of(score, scores),
        compared=report.answers.compared if report.answers else (),
        changes=changes(report.answers),
    )


def code(bundle: str) -> tuple[str, ...]:
    """Lines of Python that use the bundle."""
    return "import paraexport", f"print(paraexport.load({json.dumps(bundle)}).predict(['photo.jpg'], top=3))"


def figures(report: Report) -> Iterator[Figure]:
    """Accuracy, size and latency, before and after."""
    yield answers_figure(report.accuracy, report.answers)
    if (look := report.first_look) is not None:
        yield Figure(
            "Size",
            size_text(look.model_bytes),
            f"checkpoint {size_text(look.checkpoint_bytes)}",
            "the files that the runtime opens",
            shares(look.checkpoint_bytes, look.model_bytes),
        )
        yield latency_figure(look)


def answers_figure(accuracy: Accuracy | None, answers: AnswerReport | None) -> Figure:
    if accuracy is not None:
        here = accuracy.engine_correct / accuracy.images
        before = None if accuracy.pytorch_correct is None else accuracy.pytorch_correct / accuracy.images
        both = None if before is None else (before, here)
        return Figure(
            "Accuracy", percent(here, 2), f"PyTorch {percent(before, 2)}",
            f"top-1: {accuracy.engine_correct:,} of {counted(accuracy.images, 'image')}", both,
        )  # fmt: skip
    if answers is not None and answers.changed is not None:
        same = 1 - answers.changed / answers.images
        note = f"on {counted(answers.images, 'image')}; no labels, so no accuracy"
        return Figure("Same answer", percent(same, 2), "compared with PyTorch", note)
    return Figure("Accuracy", "not measured", "", "no labelled images, or the engine did not run")


def latency_figure(look: FirstLook) -> Figure:
    before = f"PyTorch {look.pytorch_ms:.3g} ms"
    if look.engine_ms is None:
        return Figure("Latency", "not measured", before, "the engine did not run on this machine")
    factor = look.pytorch_ms / look.engine_ms
    speed = f"{factor:.1f} times as fast" if factor >= 1 else f"{1 / factor:.1f} times as slow"
    both = shares(look.pytorch_ms, look.engine_ms)
    return Figure("Latency", f"{look.engine_ms:.3g} ms", before, f"one image; {speed}, a rough measurement", both)


def shares(before: float, after: float) -> tuple[float, float]:
    most = max(before, after) or 1.0
    return before / most, after / most


def changes(answers: AnswerReport | None) -> str:
    """Say in one sentence how far the answers changed."""
    if answers is None:
        return "The engine did not run on the machine of the build, so no answers were compared."
    images = counted(answers.images, "image")
    if answers.changed is None:
        return f"Measured values of {images}. These changed most."
    if not answers.changed:
        return f"No answer changed on {images}. These images have the largest change of a score."
    return f"{counted(answers.changed, 'answer')} changed on {images}. These images changed most."


def chapters(subject: Subject, report: Report) -> Iterator[Chapter]:
    """Everything below the first screen, in reading order."""
    names = class_names(subject.labels, recorded(subject.scores, len(subject.labels)))
    answers = describe_answers.classes(report.answers, names) if report.answers else ()
    yield Chapter("images", "Images whose answers changed most", ())
    yield Chapter("classes", "Classes", tuple(answers))
    yield Chapter("model", "Model and branches", tuple(branches(report)))
    lowering = subject.lowering
    errors = tuple(branch_maps.errors(lowering.errors)) if lowering else ()
    if lowering and errors:
        lowering = dataclasses.replace(lowering, errors=())  # the heat map has them
    yield Chapter("precision", "Precision", (*describe.precision(lowering), *errors))
    rewrites = describe.rewrites(subject.rewrites, refusals=subject.spec is None)
    costs = (*describe_costs.savings(report.costs), *describe_costs.distribution(report.costs))
    yield Chapter("work", "Rewrites and work", (*rewrites, *costs))
    speed = (*describe.first_look(report.first_look), *describe.candidates(subject.candidates))
    yield Chapter("speed", "Size and speed", (*speed, *summary.engine(report.engine)))
    smaller = (
        dataclasses.replace(
            describe.checks(model.checks), title=f"Checks of the first {counted(model.branches, 'branch')}"
        )
        for model in subject.fewer_branches
    )
    yield Chapter("checks", "Checks", (describe.checks(report.checks, report.evidence), *smaller))
    yield Chapter("details", "Details", tuple(summary.details(subject, report)))


def branches(report: Report) -> Iterator[Section]:
    """Describe what each branch is worth and what the first ones do alone, with charts and a heat map."""
    yield from describe_branches.branches(report.branches)
    for section in describe_branches.first_branches(report.branches):
        yield dataclasses.replace(section, blocks=(*branch_maps.charts(report.branches), *section.blocks))
    yield from branch_maps.similarity(report.branches)


def has_more(chapter: Chapter, report: Report) -> bool:
    """Whether the template adds something to a chapter without sections: images, or the picture of the model."""
    subject = report.subject
    has_picture = subject is not None and subject.spec is not None
    return chapter.name == "images" or (chapter.name == "model" and has_picture)
