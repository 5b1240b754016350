"""Tries all possible values of a field that the checkpoint does not contain, such as heads, on labelled images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paraexport.checks.golden import answers
from paraexport.errors import SpecError
from paraexport.model.scores import classes_of, cross_entropy
from paraexport.model.spec import LOGITS
from paraexport.pipeline import images, reading
from paraexport.pipeline.options import ImagePaths, Reading
from paraexport.timing.clock import Progress

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint

MOST_IMAGES, MOST_SHOWN = 1024, 6
RESIDUAL = "residual"
BETTER_THAN_GUESSING = 1.5
"""An accuracy counts as evidence only if it is more than this many times that of guessing."""


@dataclass(frozen=True)
class Trial:
    """The accuracy of a model with these values on the labelled images."""

    values: Mapping[str, str]
    correct: int
    images: int
    classes: int
    loss: float
    """Mean negative logarithm of the probability of the right class."""

    def __str__(self) -> str:
        fields = " ".join(f"{name}={value}" for name, value in self.values.items())
        return f"{fields}: {100 * self.correct / self.images:.1f} % ({self.correct} of {self.images})"


def load(source: Path, given: Reading, paths: ImagePaths, progress: Progress) -> Checkpoint:
    """Load the checkpoint. If it leaves one field open, raise an error with the accuracy of each value on `--data`.

    No value is chosen: only the user knows how the model was trained.

    Raises:
        SpecError: fields are open, or reading the checkpoint failed.
    """
    try:
        return reading.load(source, given)
    except SpecError as error:
        if paths.data is None or len(error.open) != 1 or not error.open[0].values:
            raise
        field, values = error.open[0].name, error.open[0].values
        progress(f"trying {field} on {paths.data.name}")
        trials = sorted(
            measure_all(source, given, paths, field, values), key=lambda trial: (-trial.correct, trial.loss)
        )
        if not trials:
            raise
        fields = list(trials[0].values)
        raise SpecError(
            f"the checkpoint does not contain {' and '.join(fields)}",
            where=source,
            expected=" ".join(f"--spec {name}=VALUE" for name in fields) + " as in training",
            got=f"top-1 on {paths.data.name}: {'; '.join(map(str, trials[:MOST_SHOWN]))}",
            remedy=f"give the values of your training; {verdict(trials)}",
        ) from error


def measure_all(source: Path, given: Reading, paths: ImagePaths, field: str, values: Sequence[str]) -> Iterator[Trial]:
    """Measure PyTorch on some labelled images, with every value of the field.

    If the residual would be assumed, every kind of residual is tried with each value.
    """
    from paraexport.checkpoint.variants import variants, with_spec
    from paraexport.model.reference import ParaFormer

    loaded = reading.load(source, dataclasses.replace(given, spec={**given.spec, field: values[0]}))
    if loaded.spec is None or not isinstance(loaded.module, ParaFormer) or loaded.classifier.classes < 2:
        return
    samples = images.open_images(paths, loaded.preprocessing, images.class_names_of(loaded, paths))
    if samples.labels is None:
        return
    places = samples.spread(MOST_IMAGES)
    prepared, labels = samples.at(places), samples.labels[places]
    fields = [field, *([RESIDUAL] if any(item.field == RESIDUAL for item in loaded.assumptions) else [])]
    specs = [loaded.spec]
    for name in fields:
        specs += [other for spec in specs for other in variants(spec, name)]
    for spec in specs:
        outputs = answers(with_spec(loaded.module, spec))(prepared)
        yield Trial(
            {name: str(getattr(spec, name)) for name in fields},
            correct=int((classes_of(outputs, LOGITS) == labels).sum()),
            images=len(labels),
            classes=outputs.shape[1],
            loss=float(cross_entropy(outputs, labels).mean()),
        )


def verdict(trials: Sequence[Trial]) -> str:
    """Return one clause: whether these images show which values are right."""
    best, *others = trials
    if best.correct * best.classes <= BETTER_THAN_GUESSING * best.images:
        return "none is better than guessing, so check the labels and the preprocessing too"
    if others and best.correct - others[0].correct < math.sqrt(best.images - best.correct + 1):
        return "the best ones are too close to tell apart on these images"
    return "the right ones reach the accuracy of your training"
