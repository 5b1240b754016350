"""Answers by class and the images that changed most, counted by hand."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paraexport.findings.answers import ClassAnswers, Confusion
from paraexport.images.thumbnail import LONGEST_SIDE, thumbnail
from paraexport.model.spec import Preprocessing
from paraexport.pipeline.answer_report import classes_with, confused

LABELS = np.array([0, 0, 0, 2, 2])
PYTORCH, ENGINE = np.array([0, 0, 1, 2, 0]), np.array([0, 1, 1, 2, 2])


def test_each_class_with_images_counts_its_right_answers() -> None:
    assert classes_with(LABELS, PYTORCH, ENGINE) == (ClassAnswers(0, 3, 2, 1), ClassAnswers(2, 2, 1, 2))


def test_wrong_answers_are_counted_the_most_frequent_first() -> None:
    assert confused(LABELS, PYTORCH, ENGINE) == (Confusion(0, 1, 1, 2), Confusion(2, 0, 1, 0))


def decoded(png: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


def test_a_thumbnail_shows_the_pixels_before_scaling() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
    prepared = ((pixels / 255 - 0.5) / 0.25).transpose(2, 0, 1).astype(np.float32)
    images = Preprocessing(image_size=(4, 4), channels=3, resize=(4, 4), mean=(0.5,), std=(0.25,))
    assert np.array_equal(decoded(thumbnail(prepared, images)), pixels)


def test_a_large_image_is_made_small() -> None:
    images = Preprocessing(image_size=(300, 200), channels=1, resize=(300, 200))
    assert max(decoded(thumbnail(np.zeros((1, 300, 200), np.float32), images)).shape) == LONGEST_SIDE
