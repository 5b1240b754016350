"""Compares the answers of the bundle with PyTorch's: by class, and for the images that changed most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from paraexport.bundle.records import Manifest
from paraexport.checks.comparison import Comparison
from paraexport.findings.answers import AnswerReport, ClassAnswers, ComparedImage, Confusion, ScoredLabel
from paraexport.images.dataset import Samples
from paraexport.images.thumbnail import thumbnail
from paraexport.model.scores import answers, class_names, classes_of, ranked, recorded, scores_of
from paraexport.model.spec import Scores
from paraexport.system.plain_paths import readable

MOST_CLASSES, MOST_CONFUSIONS = 20, 20
"""With more classes, a report has only this many of the least accurate ones, and of the wrong answers."""
MOST_COMPARED, MOST_LABELS = 8, 3
Array = NDArray[np.float32]


def answer_report(samples: Samples, pytorch: Array, comparison: Comparison, manifest: Manifest) -> AnswerReport | None:
    """Compare PyTorch's outputs [N, classes] for the images with those of the engine. None if it did not run."""
    if (engine := comparison.outputs) is None:
        return None
    scores = recorded(manifest.scores, len(manifest.labels))
    labels = samples.labels if scores.kind != "values" else None
    same = same_answers(pytorch, engine, scores)
    by_class: tuple[ClassAnswers, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    if labels is not None:
        sides = (classes_of(pytorch, scores), classes_of(engine, scores))
        by_class, confusions = classes_with(labels, *sides), confused(labels, *sides)
    classes = len(by_class)
    if classes > MOST_CLASSES:
        by_class = tuple(sorted(by_class, key=lambda entry: entry.engine_correct / entry.images)[:MOST_CLASSES])
        confusions = confusions[:MOST_CONFUSIONS]
    return AnswerReport(
        images=len(pytorch),
        changed=None if scores.kind == "values" else int((~same).sum()),
        classes=classes,
        by_class=by_class,
        confusions=confusions,
        compared=compared(samples, pytorch, engine, same, labels, manifest),
    )


def same_answers(pytorch: Array, engine: Array, scores: Scores) -> NDArray[np.bool_]:
    """Whether both sides give the same answer to each image. Measured values are no answers and count as the same."""
    if scores.kind == "values":
        return np.ones(len(pytorch), bool)
    return (answers(pytorch, scores) == answers(engine, scores)).all(1)


def classes_with(
    labels: NDArray[np.int64], pytorch: NDArray[np.int64], engine: NDArray[np.int64]
) -> tuple[ClassAnswers, ...]:
    """Count the images and the right answers of each class that has images."""
    numbers, images = np.unique(labels, return_counts=True)
    right = [Counter(labels[side == labels].tolist()) for side in (pytorch, engine)]
    return tuple(
        ClassAnswers(number, count, right[0][number], right[1][number])
        for number, count in zip(numbers.tolist(), images.tolist(), strict=True)
    )


def confused(labels: NDArray[np.int64], pytorch: NDArray[np.int64], engine: NDArray[np.int64]) -> tuple[Confusion, ...]:
    """Count the wrong answers of each kind, the most frequent first."""
    counts = [
        Counter(zip(labels[wrong].tolist(), side[wrong].tolist(), strict=True))
        for side in (pytorch, engine)
        for wrong in (side != labels,)
    ]
    pairs = sorted(counts[0].keys() | counts[1].keys(), key=lambda pair: (-counts[1][pair], -counts[0][pair], pair))
    return tuple(Confusion(*pair, counts[0][pair], counts[1][pair]) for pair in pairs)


def compared(  # noqa: PLR0917
    samples: Samples,
    pytorch: Array,
    engine: Array,
    same: NDArray[np.bool_],
    labels: NDArray[np.int64] | None,
    manifest: Manifest,
) -> tuple[ComparedImage, ...]:
    """The images with another answer first, then those with the largest change of a score."""
    scores = recorded(manifest.scores, len(manifest.labels))
    with np.errstate(invalid="ignore", over="ignore"):
        changes = np.abs(scores_of(engine, scores) - scores_of(pytorch, scores)).max(1)
    places = np.lexsort((-changes, same))[:MOST_COMPARED]
    names = class_names(manifest.labels, scores)

    def best(outputs: Array) -> tuple[ScoredLabel, ...]:
        entries = ranked(outputs, manifest.labels, scores)[:MOST_LABELS]
        return tuple(ScoredLabel(entry.label, entry.score) for entry in entries)

    return tuple(
        ComparedImage(
            name=readable(samples.name(int(place))),
            png=thumbnail(image, manifest.preprocessing),
            truth=None if labels is None else name_of_class(int(labels[place]), names),
            pytorch=best(pytorch[place]),
            engine=best(engine[place]),
            largest_change=float(changes[place]),
            same_answer=bool(same[place]),
        )
        for place, image in zip(places, samples.at(places), strict=True)
    )


def name_of_class(number: int, names: Sequence[str]) -> str:
    return names[number] or f"class {number}"
