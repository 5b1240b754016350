"""Tries all possible values of a field that the checkpoint does not settle, such as heads, on labelled images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paraexport.checks.golden import answers
from paraexport.errors import InputError, SpecError
from paraexport.model.scores import classes_of
from paraexport.model.spec import LOGITS
from paraexport.pipeline import images, reading
from paraexport.pipeline.options import ImagePaths, Reading
from paraexport.timing.clock import Progress

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint

MOST_IMAGES, MOST_VALUES = 256, 12


def load(source: Path, given: Reading, paths: ImagePaths, progress: Progress) -> Checkpoint:
    """Load the checkpoint. If it leaves one field open, raise an error with the accuracy of each value on `--data`.

    No value is chosen: only the user knows the value in training.

    Raises:
        SpecError: fields are open, or reading the checkpoint failed.
    """
    try:
        return reading.load(source, given)
    except SpecError as error:
        if paths.data is None or len(error.choices) != 1:
            raise
        ((field, values),) = error.choices.items()
        progress(f"trying {field} on {paths.data.name}")
        accuracies = measure(source, given, paths, field, values[:MOST_VALUES])
        if not accuracies:
            raise
        table = ", ".join(f"{value}: {100 * share:.1f} %" for value, share in accuracies.items())
        raise SpecError(
            f"the weights leave open {field}",
            where=source,
            expected=f"--spec {field}=N, as in training",
            got=f"top-1 on {paths.data.name}: {table}",
            remedy=f"give --spec {field}=N; the right value gives the accuracy of your training",
        ) from error


def measure(source: Path, given: Reading, paths: ImagePaths, field: str, values: tuple[str, ...]) -> dict[str, float]:
    """Measure PyTorch's top-1 on some labelled images for each possible value, best first."""
    accuracies: dict[str, float] = {}
    for value in values:
        try:
            loaded = reading.load(source, dataclasses.replace(given, spec={**given.spec, field: value}))
            samples = images.open_images(paths, loaded.preprocessing, images.class_names_of(loaded, paths))
        except InputError:
            continue
        places = samples.spread(MOST_IMAGES)
        outputs = answers(loaded.original)(samples.at(places))
        if samples.labels is None:
            return {}
        accuracies[value] = float(np.mean(classes_of(outputs, LOGITS) == samples.labels[places]))
    return dict(sorted(accuracies.items(), key=lambda pair: -pair[1]))
