"""Tries all possible values of a field that the checkpoint does not contain, such as heads, on labelled images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from paraexport.checks.golden import Array, answers
from paraexport.errors import InputError, SpecError
from paraexport.model.scores import classes_of
from paraexport.model.spec import LOGITS, Preprocessing, Residual
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
        possible, pictures = choices(source, given, field, values), Pictures(paths)
        trials = [trial for choice in possible if (trial := measure(source, given, pictures, choice)) is not None]
        if not trials:
            raise
        trials.sort(key=lambda trial: (-trial.correct, trial.loss))
        fields = list(trials[0].values)
        raise SpecError(
            f"the checkpoint does not contain {' and '.join(fields)}",
            where=source,
            expected=" ".join(f"--spec {name}=VALUE" for name in fields) + " as in training",
            got=f"top-1 on {paths.data.name}: {'; '.join(map(str, trials[:MOST_SHOWN]))}",
            remedy=f"give the values of your training; {verdict(trials)}",
        ) from error


def choices(source: Path, given: Reading, field: str, values: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """List every value of the field, each with every kind of residual if the residual would be assumed."""
    try:
        loaded = reading.load(source, with_values(given, {field: values[0]}))
        assumed = any(item.field == RESIDUAL for item in loaded.assumptions)
    except InputError:
        assumed = False
    for value in values:
        for residual in get_args(Residual) if assumed else ("",):
            yield {field: value, **({RESIDUAL: residual} if residual else {})}


def with_values(given: Reading, values: Mapping[str, str]) -> Reading:
    return dataclasses.replace(given, spec={**given.spec, **values})


class Pictures:
    """The labelled images. Models that prepare images alike share them, so that each file is decoded once."""

    def __init__(self, paths: ImagePaths) -> None:
        self.paths = paths
        self.known: dict[tuple[Preprocessing, tuple[str, ...]], tuple[Array, NDArray[np.int64] | None]] = {}

    def prepared_for(self, loaded: Checkpoint) -> tuple[Array, NDArray[np.int64] | None]:
        """Some images [N, C, h, w], evenly spaced, and their labels [N]; None without labels."""
        key = loaded.preprocessing, images.class_names_of(loaded, self.paths)
        if key not in self.known:
            samples = images.open_images(self.paths, *key)
            places = samples.spread(MOST_IMAGES)
            self.known[key] = samples.at(places), None if samples.labels is None else samples.labels[places]
        return self.known[key]


def measure(source: Path, given: Reading, pictures: Pictures, values: Mapping[str, str]) -> Trial | None:
    """Measure PyTorch on the labelled images with these values; None if the values are not possible."""
    try:
        loaded = reading.load(source, with_values(given, values))
        prepared, labels = pictures.prepared_for(loaded)
    except InputError:
        return None
    if labels is None:
        return None
    outputs = answers(loaded.original)(prepared).astype(np.float64)
    correct = int((classes_of(outputs, LOGITS) == labels).sum())
    shifted = outputs - outputs.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - np.take_along_axis(shifted, labels[:, None] % outputs.shape[1], 1)[:, 0]
    return Trial(values, correct, len(labels), outputs.shape[1], float(losses.mean()))


def verdict(trials: Sequence[Trial]) -> str:
    """Return one clause: whether these images show which values are right."""
    best, *others = trials
    if best.correct * best.classes <= BETTER_THAN_GUESSING * best.images:
        return "none is better than guessing, so check the labels and the preprocessing too"
    if others and best.correct - others[0].correct < math.sqrt(best.images - best.correct + 1):
        return "the best ones are too close to tell apart on these images"
    return "the right ones reach the accuracy of your training"
