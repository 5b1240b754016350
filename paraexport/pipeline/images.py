"""Opens the images for checks and calibration, and runs PyTorch on them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paraexport.bundle.records import Manifest
from paraexport.checks.comparison import Pair
from paraexport.checks.golden import Array, RawImage, answers
from paraexport.checks.verdicts import Evidence
from paraexport.errors import InputError, shortlist
from paraexport.findings.assumptions import Assumption
from paraexport.findings.words import first_words
from paraexport.images.dataset import Samples, open_samples
from paraexport.images.made_up import made_up_samples, odd_sizes
from paraexport.images.preprocess import prepare_pixels
from paraexport.images.variety import Variety, VarietyMeter
from paraexport.images.wording import counted
from paraexport.model.scores import class_names
from paraexport.model.spec import Preprocessing, Scores
from paraexport.pipeline.options import ImagePaths
from paraexport.system.plain_paths import readable

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint

LABELS = "labels"
GOLDEN_IMAGES = 16
REAL_RAW_IMAGES, MOST_LOOKED_AT = 3, 8
LARGEST_RAW_BYTES = 2**20
"""Larger images are not stored as pixels in a bundle."""
FEW, ENOUGH = 16, 64
"""With fewer than `FEW` different calibration images there is a note; `ENOUGH` are enough."""
HELD_OUT, ENOUGH_TO_HOLD_OUT = 4, 32
"""Of at least `ENOUGH_TO_HOLD_OUT` images, one in `HELD_OUT` is not used for calibration."""


def open_all(paths: ImagePaths, loaded: Checkpoint) -> tuple[Samples, Samples]:
    """Open the images of the checks, and the calibration images."""
    samples = open_images(paths, loaded.preprocessing, class_names_of(loaded, paths))
    return samples, open_calibration(paths, loaded.preprocessing, samples)


def with_folder_names(loaded: Checkpoint, samples: Samples) -> tuple[Checkpoint, Samples]:
    """If nothing names the classes, name them after the class folders, which are numbered in string order."""
    folders = samples.folders or {}
    assumed = any(item.field == LABELS for item in loaded.assumptions)
    if not assumed or len(folders) != loaded.classifier.classes or all(name.isdigit() for name in folders):
        return loaded, samples
    labels = tuple(map(readable, sorted(folders, key=lambda name: folders[name])))
    reason = (
        "nothing names the classes, so they have the names of the class folders, in string order; if the model was "
        "trained with another order, give a file with one name per line as --spec labels=FILE"
    )
    others = [item for item in loaded.assumptions if item.field != LABELS]
    assumptions = (*others, Assumption(LABELS, first_words(labels, 3), reason))
    return dataclasses.replace(loaded, labels=labels, assumptions=assumptions), dataclasses.replace(samples, notes=())


def open_images(paths: ImagePaths, preprocessing: Preprocessing, names: Sequence[str]) -> Samples:
    """Open the images of `data`, else those of `calib`, else made-up ones. `names` are the names of all classes."""
    path = paths.data or paths.calib
    if path is None:
        return made_up_samples(preprocessing)
    return open_readable(path, preprocessing, names, need_labels=paths.data is not None)


def open_readable(path: Path, preprocessing: Preprocessing, labels: Sequence[str], *, need_labels: bool) -> Samples:
    """Open the images at `path`. Their description is valid UTF-8, even if their names are not."""
    samples = open_samples(path, preprocessing, labels, need_labels=need_labels)
    unreadable = tuple(map(readable, samples.unreadable))
    return dataclasses.replace(samples, origin=readable(samples.origin), unreadable=unreadable)


def open_calibration(paths: ImagePaths, preprocessing: Preprocessing, samples: Samples) -> Samples:
    """Open the images of `calib`, else use the check images. int8 leaves some out, to check on unseen images too."""
    if paths.calib is not None and paths.data is not None:
        return open_readable(paths.calib, preprocessing, (), need_labels=False)
    hold_out = paths.precision == "int8" and len(samples) >= ENOUGH_TO_HOLD_OUT
    return samples.without_each(HELD_OUT) if hold_out else samples


def skipped_of(calibration: Samples) -> tuple[str, ...]:
    """Name the calibration images that could not be read, in one sentence."""
    lines = calibration.unreadable
    return (f"{counted(len(lines), 'calibration image')} skipped: {shortlist(lines, 3)}",) if lines else ()


def class_names_of(loaded: Checkpoint, paths: ImagePaths) -> tuple[str, ...]:
    """Return the names of the classes of labelled images.

    Raises:
        InputError: labelled images were given for a model without classes.
    """
    if loaded.scores == "regression":
        if paths.data is not None:
            raise InputError(
                "the outputs of the model are values, not classes, so labels of images cannot be used",
                where=f"--data {paths.data}",
                remedy="give the images as --calib",
            )
        return loaded.labels
    return class_names(loaded.labels, Scores(negative=loaded.negative))


@dataclass(frozen=True, eq=False)
class Answers:
    """The outputs of PyTorch, or of an engine, for the images of the checks."""

    logits: Array
    """The logits of all images, [N, classes]."""
    variety: Variety
    """How different the images are."""


def pytorch_answers(loaded: Checkpoint, samples: Samples, size: int) -> Answers:
    """Run PyTorch on every image, `size` at a time."""
    return answers_of(answers(loaded.original), samples, size)


def answers_of(model: Callable[[Array], Array], samples: Samples, size: int) -> Answers:
    """Run a model on every image, `size` at a time."""
    meter = VarietyMeter()
    logits = np.concatenate([model(batch) for batch in meter.watch(samples.batches(size))])
    return Answers(logits, meter.variety())


def golden_pair(loaded: Checkpoint, samples: Samples, variety: Variety) -> Pair:
    """Return the golden images [n, C, H, W], all different, and PyTorch's logits for them [n, classes]."""
    shown = samples.at(variety.firsts(GOLDEN_IMAGES))
    return shown, answers(loaded.original)(shown)


def raw_images(loaded: Checkpoint, samples: Samples, variety: Variety) -> list[RawImage]:
    """Return images before and after preprocessing: a few real ones, if any, and made-up ones of several sizes."""
    real = (samples.pixels(int(place)) for place in variety.firsts(MOST_LOOKED_AT)) if not samples.made_up else ()
    small = (pixels for pixels in real if pixels is not None and pixels.nbytes <= LARGEST_RAW_BYTES)
    pixels = [*itertools.islice(small, REAL_RAW_IMAGES), *odd_sizes(loaded.preprocessing)]
    prepared = np.stack([prepare_pixels(image, loaded.preprocessing) for image in pixels])
    logits = answers(loaded.original)(prepared)
    return [RawImage(*parts) for parts in zip(pixels, prepared, logits, strict=True)]


def evidence(samples: Samples, answered: Answers, golden: Pair, manifest: Manifest) -> Evidence:
    """Collect the images and logits for the checks of the model of `manifest`."""
    return Evidence(
        with_logits(samples, answered.logits, manifest.max_batch),
        samples.labels,
        *golden,
        rounding=manifest.lowering.rounding if manifest.lowering else None,
        scores=manifest.scores,
    )


def with_logits(samples: Samples, logits: NDArray[np.float32], size: int) -> Iterator[Pair]:
    """Yield the images of `samples`, `size` at a time, with PyTorch's logits."""
    for number, images in enumerate(samples.batches(size)):
        yield images, logits[number * size :][: len(images)]
