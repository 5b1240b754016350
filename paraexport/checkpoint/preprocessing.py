"""Settles the preprocessing of images and the names of classes, from options, configs, convention or assumption."""

from __future__ import annotations

import math

from paraexport.checkpoint.given import Given, Guesses, Size
from paraexport.errors import SpecError
from paraexport.findings.words import option_text
from paraexport.model.spec import Classifier, Interpolation, Preprocessing

MOST_PIXELS = 89_478_485
"""Pillow's own limit for one image."""
CHECK = "check the transforms of your training"


def settle_preprocessing(
    classifier: Classifier, given: Given, guesses: Guesses, *, mean_std: tuple[float, float] | None
) -> Preprocessing:
    """Settle the preprocessing.

    Args:
        mean_std: the values in the training scripts of the convention, if known.

    Raises:
        SpecError: mean or std have a wrong number of values, or the resize does not fit the image size.
    """
    mean, std, why = (0.5, 0.5, CHECK) if mean_std is None else (*mean_std, "the default of the released training code")
    interpolation: Interpolation = "bilinear"
    resize = given.resize if given.resize is not None else timm_resize(classifier.image_size, given)
    if resize is not None:
        check_resize(resize, classifier.image_size)
    if resize is not None and resize == given.uncropped != classifier.image_size:
        size = option_text(classifier.image_size)
        guesses.assume(
            "resize", resize, f"the config does not crop; here the centre is cropped to {size} for the model"
        )
    return Preprocessing(
        image_size=classifier.image_size,
        channels=classifier.channels,
        resize=resize or guesses.assume("resize", classifier.image_size, CHECK),
        interpolation=guesses.settle("interpolation", given.interpolation, interpolation, CHECK),
        mean=per_channel("mean", guesses.settle("mean", given.mean, (mean,), why), classifier.channels),
        std=per_channel("std", guesses.settle("std", given.std, (std,), why), classifier.channels),
    )


def timm_resize(image_size: Size, given: Given) -> Size | int | None:
    """timm's `crop_pct`, as its `transforms_imagenet_eval` applies it; None where no config has it.

    Raises:
        SpecError: timm covers an image that is no square with a resize that ours cannot express.
    """
    if given.crop_pct is None:
        return None
    height, width = (math.floor(side / given.crop_pct) for side in image_size)
    if given.squash:
        return height, width
    if height != width:
        raise SpecError(
            f"the config's crop_pct={given.crop_pct:g} with images of {option_text(image_size)} is not supported",
            expected="a square, or crop_mode=squash",
            remedy=f"settle it with --spec resize={height}x{width}, or with the shorter side alone",
        )
    return height


def check_resize(size: tuple[int, int] | int, crop: tuple[int, int]) -> None:
    """Refuse a resize that is smaller than the crop, or too large."""
    sides = (size, size) if isinstance(size, int) else size
    # If only the shorter side is given, the other side of an image may still be large enough.
    least = (min(crop), min(crop)) if isinstance(size, int) else crop
    if sides[0] < least[0] or sides[1] < least[1]:
        raise SpecError(
            f"resize={option_text(size)} is smaller than the crop of {option_text(crop)} after it",
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

    Without labels they are "0", "1", …. A model with one output decides between "no" and "yes". It may have two labels,
    "no" first. Otherwise the label for "no" is empty.

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
            expected=f"{classifier.classes} labels",
            got=len(labels),
            remedy="give a file with one name per line as --spec labels=FILE",
        )
    return labels, ""
