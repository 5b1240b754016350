"""How images are prepared, and what the classes are called: said, known of the convention, or assumed aloud."""

from __future__ import annotations

import math

from paraexport.checkpoint.given import Given, Guesses, Size
from paraexport.errors import SpecError
from paraexport.findings.words import option_text
from paraexport.model.spec import Classifier, Interpolation, Preprocessing

MOST_PIXELS = 89_478_485
"""Pillow's own bound for one image."""
CHECK = "check the transforms of your training"


def prepare(
    classifier: Classifier, said: Given, guesses: Guesses, *, mean_std: tuple[float, float] | None
) -> Preprocessing:
    """Settle the preprocessing; `mean_std` is what the convention's own training scripts use, where known.

    Raises:
        SpecError: mean or std are not one number, or one a channel.
    """
    mean, std, why = (0.5, 0.5, CHECK) if mean_std is None else (*mean_std, "the default of the released training code")
    interpolation: Interpolation = "bilinear"
    resize = said.resize if said.resize is not None else timm_resize(classifier.image_size, said)
    if resize is not None:
        check_resize(resize, classifier.image_size)
    if resize is not None and resize == said.uncropped != classifier.image_size:
        size = option_text(classifier.image_size)
        guesses.assume(
            "resize", resize, f"the config cuts nothing out; here the centre is cut out, {size} for the model"
        )
    return Preprocessing(
        image_size=classifier.image_size,
        channels=classifier.channels,
        resize=resize or guesses.assume("resize", classifier.image_size, CHECK),
        interpolation=guesses.settle("interpolation", said.interpolation, interpolation, CHECK),
        mean=per_channel("mean", guesses.settle("mean", said.mean, (mean,), why), classifier.channels),
        std=per_channel("std", guesses.settle("std", said.std, (std,), why), classifier.channels),
    )


def timm_resize(image_size: Size, said: Given) -> Size | int | None:
    """timm's `crop_pct`, as its `transforms_imagenet_eval` applies it; None where no config has it.

    Raises:
        SpecError: timm covers an image that is no square with a resize that ours cannot express.
    """
    if said.crop_pct is None:
        return None
    height, width = (math.floor(side / said.crop_pct) for side in image_size)
    if said.squash:
        return height, width
    if height != width:
        raise SpecError(
            f"the config's crop_pct={said.crop_pct:g} with images of {option_text(image_size)} is not supported",
            expected="a square, or crop_mode=squash",
            remedy=f"settle it with --spec resize={height}x{width}, or with the shorter side alone",
        )
    return height


def check_resize(size: tuple[int, int] | int, crop: tuple[int, int]) -> None:
    """Refuse a resize that leaves too little of every image, or too much."""
    sides = (size, size) if isinstance(size, int) else size
    # With the shorter side alone given, an image of another shape may be larger on the other side.
    least = (min(crop), min(crop)) if isinstance(size, int) else crop
    if sides[0] < least[0] or sides[1] < least[1]:
        raise SpecError(
            f"resize={option_text(size)} leaves less than the image of {option_text(crop)} that is then cropped",
            remedy="give a larger --spec resize=…",
        )
    if sides[0] * sides[1] > MOST_PIXELS:
        raise SpecError(f"resize={option_text(size)} is too large", expected=f"at most {MOST_PIXELS} pixels")


def per_channel(field: str, values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if len(values) not in (1, channels):
        raise SpecError(f"{field} has {len(values)} numbers", expected=f"one, or one for each of {channels} channels")
    return values * channels if len(values) == 1 else values


def name_classes(classifier: Classifier, labels: tuple[str, ...] | None) -> tuple[tuple[str, ...], str]:
    """(one label for each output, the label for "no").

    Without labels they are "0", "1", …. A model with one output decides between "no" and "yes": its label is "1",
    or the second of two labels, and then the first one is the label for "no". In all other cases that is empty.

    Raises:
        SpecError: more or fewer labels than outputs.
    """
    if labels is None:
        return ("1",) if classifier.classes == 1 else tuple(str(index) for index in range(classifier.classes)), ""
    if classifier.classes == 1 and len(labels) == 2:
        return labels[1:], labels[0]
    if len(labels) != classifier.classes:
        raise SpecError(
            "the labels do not fit the model",
            expected=f"{classifier.classes} of them",
            got=len(labels),
            remedy="give a file with one name a line as --spec labels=FILE",
        )
    return labels, ""
