"""Tries all possible values of a field that the checkpoint does not contain, such as heads, on labelled images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paraexport.errors import OpenField, SpecError
from paraexport.findings.words import counted
from paraexport.pipeline import images, reading
from paraexport.pipeline.options import ImagePaths, Reading
from paraexport.pipeline.trial import Trial
from paraexport.timing.clock import Progress

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint

SIEVE_IMAGES, MOST_IMAGES, MOST_SHOWN = 64, 512, 6
"""Every value runs on a few images, and the best ones, which are shown, on more."""
RESIDUAL = "residual"
BETTER_THAN_GUESSING = 1.5
"""An accuracy counts as evidence only if it is more than this many times that of guessing."""


@dataclass(frozen=True)
class ValueAccuracy:
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


def load(source: Path, given: Reading, paths: ImagePaths, size: int, progress: Progress) -> Checkpoint:
    """Load the checkpoint. If it leaves one field open, raise an error with the accuracy of each value on `--data`.

    No value is chosen: only the user knows how the model was trained. `size` is the number of images in one call.

    Raises:
        SpecError: fields are open, or reading the checkpoint failed.
    """
    try:
        return reading.load(source, given)
    except SpecError as error:
        if paths.data is None or len(error.open) != 1 or not error.open[0].values:
            raise
        trials = sorted(
            measure_all(source, given, paths, error.open[0], size, progress),
            key=lambda trial: (-trial.correct, trial.loss),
        )
        if not trials:
            raise
        fields = list(trials[0].values)
        table = "; ".join(map(str, trials))
        raise SpecError(
            f"the checkpoint does not contain {' and '.join(fields)}; top-1 on {paths.data.name} with the best values: "
            f"{table}; {verdict(trials)}",
            where=source,
            remedy=f"give the values of your training: {' '.join(f'--spec {name}=VALUE' for name in fields)}",
        ) from error


def measure_all(  # noqa: PLR0917
    source: Path, given: Reading, paths: ImagePaths, field: OpenField, size: int, progress: Progress
) -> Iterator[ValueAccuracy]:
    """Measure PyTorch on some labelled images, with the most promising values of the field.

    If the residual would be assumed, every kind of residual is tried with each value.
    """
    from paraexport.checkpoint.variants import variants
    from paraexport.model.reference import ParaFormer

    loaded = reading.load(source, dataclasses.replace(given, spec={**given.spec, field.name: field.values[0]}))
    if loaded.spec is None or not isinstance(loaded.module, ParaFormer):
        return
    samples = images.open_images(paths, loaded.preprocessing, images.class_names_of(loaded, paths))
    if samples.labels is None:
        return
    trial = Trial(loaded, samples, most=MOST_IMAGES, size=size)
    fields = [field.name, *([RESIDUAL] if any(item.field == RESIDUAL for item in loaded.assumptions) else [])]
    specs = [loaded.spec]
    for name in fields:
        specs += [other for spec in specs for other in variants(spec, name)]
    settings = [dataclasses.replace(trial.first, spec=spec) for spec in specs]
    progress(f"{counted(len(settings), 'value')} of {' and '.join(fields)} on {samples.origin}")
    best = sorted(settings, key=lambda setting: trial.loss(setting, SIEVE_IMAGES))[:MOST_SHOWN]
    for setting in best:
        result = trial.result(setting, MOST_IMAGES)
        yield ValueAccuracy(
            {name: str(getattr(setting.spec, name)) for name in fields},
            correct=int(result.right.sum()),
            images=trial.images,
            classes=max(2, loaded.classifier.classes),
            loss=float(result.losses.mean()),
        )


def verdict(trials: Sequence[ValueAccuracy]) -> str:
    """Return one clause: whether these images show which values are right."""
    best, *others = trials
    if best.correct * best.classes <= BETTER_THAN_GUESSING * best.images:
        return "none is better than guessing, so check the labels and the preprocessing too"
    if others and best.correct - others[0].correct < math.sqrt(best.images - best.correct + 1):
        return "the best ones are too close to tell apart on these images"
    return "the right ones reach the accuracy of your training"
