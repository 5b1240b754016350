"""Turns the outputs of a model into labels with scores."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike, cpu_count
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from paraexport.bundle.records import Manifest
from paraexport.errors import DataError, InputError
from paraexport.images.preprocess import decode_image, prepare_file, prepare_pixels
from paraexport.model.scores import ranked, recorded, usable

if TYPE_CHECKING:
    from PIL import Image
    from typing_extensions import TypeIs

Picture: TypeAlias = "str | PathLike[str] | NDArray[np.uint8] | Image.Image"
"""An image file, pixels [H, W, C] ([H, W] for one channel), or an image of Pillow."""
Model = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""float32 [N, C, H, W] -> float32 [N, classes]."""
PIXELS = "pixels"
MOST_THREADS = 8
ROUNDING = 1e-3
"""Probabilities may leave the range 0 to 1 by this much, in any precision."""


@dataclass(frozen=True)
class ScoredLabel:
    label: str
    index: int
    """The index of the output. It is -1 for the label that a model with one output gives below 50 %."""
    score: float
    probability: float | None
    """The score, if it is a probability."""


@dataclass(frozen=True)
class Prediction:
    """The best label for one image; `top` starts with it."""

    image: str
    """The path, or `pixels` for an array or an image of Pillow."""
    label: str
    index: int
    score: float
    probability: float | None
    top: tuple[ScoredLabel, ...]


@dataclass(frozen=True)
class Failure:
    """An image without a prediction, and the reason."""

    image: str
    error: DataError


def preprocessed(picture: Picture, manifest: Manifest) -> NDArray[np.float32]:
    """Prepare one image as the manifest says: float32 [C, H, W].

    Raises:
        DataError: the picture cannot be read, or has the wrong type, shape or size.
        InputError: the picture is a file, but the model takes neither 1 nor 3 channels.
    """
    preprocessing = manifest.preprocessing
    if isinstance(picture, np.ndarray):
        grey = picture.ndim == 2 and preprocessing.channels == 1
        return prepare_pixels(picture[..., None] if grey else picture, preprocessing)
    if is_pillow(picture):
        require_image_files(manifest)
        return prepare_pixels(decode_image(picture, preprocessing.channels), preprocessing, "image")
    if not isinstance(picture, str | PathLike):
        expected = "the path of an image file, a uint8 array [H, W, C] or an image of Pillow"
        raise DataError("not an image", expected=expected, got=type(picture).__name__)
    require_image_files(manifest)
    return prepare_file(Path(picture), preprocessing)


def is_pillow(picture: object) -> TypeIs[Image.Image]:
    """Whether this is an image of Pillow. If Pillow is not imported yet, it is none."""
    if "PIL.Image" not in sys.modules:
        return False
    from PIL import Image  # waits if another thread is importing it

    return isinstance(picture, Image.Image)


def require_image_files(manifest: Manifest) -> None:
    """Raise if the model cannot take image files.

    Raises:
        InputError: the model takes neither 1 nor 3 channels.
    """
    if (channels := manifest.preprocessing.channels) not in (1, 3):
        raise InputError(
            "this model takes no image files",
            expected="1 or 3 channels",
            got=channels,
            remedy="load the bundle in Python and give arrays",
        )


def predict_each(
    model: Model, manifest: Manifest, pictures: Sequence[Picture], top: int
) -> Iterator[Prediction | Failure]:
    """Predict each picture, in order. At most `max_batch` images are in memory."""
    if top < 1:
        raise InputError("invalid value", where="top", expected="a whole number, at least 1", got=top)

    def prepare(picture: Picture) -> NDArray[np.float32] | Failure:
        try:
            return preprocessed(picture, manifest)
        except DataError as error:
            return Failure(name_of(picture), error)

    size = manifest.max_batch
    with ThreadPoolExecutor(min(MOST_THREADS, cpu_count() or 1)) as pool:
        for start in range(0, len(pictures), size):
            batch = pictures[start : start + size]
            images = list(pool.map(prepare, batch))
            readable = [image for image in images if not isinstance(image, Failure)]
            outputs = iter(model(np.stack(readable)) if readable else ())
            for picture, image in zip(batch, images, strict=True):
                if isinstance(image, Failure):
                    yield image
                else:
                    yield predicted(next(outputs), manifest, name_of(picture), top)


def predicted(outputs: NDArray[np.float32], manifest: Manifest, image: str, top: int) -> Prediction | Failure:
    """Turn the outputs [classes] for one image into a prediction; scores are computed in float64."""
    labels = manifest.labels
    scores = recorded(manifest.scores, len(labels))
    if not usable(outputs, scores):
        remedy = "run `paraexport validate` on the bundle"
        return Failure(image, DataError("the outputs of the model are not finite", where=image, remedy=remedy))
    order = ranked(outputs, labels, scores)
    values = [label.score for label in order]
    if scores.probabilities and not (min(values) >= -ROUNDING and max(values) <= 1 + ROUNDING):
        got = f"{min(values):.4g} to {max(values):.4g}"
        error = DataError("the outputs are not probabilities", where=image, expected="0 to 1", got=got)
        return Failure(image, error)
    best = tuple(
        ScoredLabel(label.label, label.index, label.score, label.score if scores.probabilities else None)
        for label in order
    )
    first = best[0]
    # Values measure different things, so there is no best one.
    shown = best if scores.kind == "values" else best[:top]
    return Prediction(image, first.label, first.index, first.score, first.probability, shown)


def name_of(picture: Picture) -> str:
    return str(picture) if isinstance(picture, str | PathLike) else PIXELS
