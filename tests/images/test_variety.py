"""Variety of images, and the reasons why they are poor evidence."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from paraexport.images.variety import measure_variety, weak_classes, weaknesses

NOISE = np.random.default_rng(0).random((40, 3, 4, 6), np.float32)
BLACK = np.zeros((40, 3, 4, 6), np.float32)


def said(images: NDArray[np.float32]) -> list[str]:
    return [*weaknesses(measure_variety([images[:7], images[7:]] if len(images) > 7 else [images]), (0.5,))]


def still(channel: int) -> NDArray[np.float32]:
    images = NOISE.copy()
    images[:, channel] = 0.5
    return images


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (NOISE, []),
        (NOISE[:8], []),
        (np.repeat(NOISE[:1], 40, 0), ["all 40 images are equal"]),
        (BLACK, ["all 40 images are equal", "each of the 40 images has one colour"]),
        (np.concatenate([BLACK[:20], NOISE[:20]]), ["20 of 40 images have one colour each"]),
        (np.resize(NOISE[:5], NOISE.shape), ["only 5 of 40 images are different"]),
        (BLACK + np.arange(40, dtype=np.float32)[:, None, None, None], ["each of the 40 images has one colour"]),
        (NOISE[:1], []),
        (NOISE[:1] + NOISE / 255, ["the 40 images are nearly equal: a pixel varies by 0.14 of 255 levels"]),
        (NOISE / 10, ["the pixels of all images lie within 12.7 of 255 levels"]),
        (still(1), ["channel 1 never varied in 40 images"]),
    ],
)  # fmt: skip
def test_what_makes_images_poor_evidence(images: NDArray[np.float32], expected: list[str]) -> None:
    assert said(images) == expected


def test_the_first_of_equal_images_are_spread_over_all() -> None:
    variety = measure_variety([np.repeat(NOISE, 2, 0)])
    assert variety.distinct == 40
    assert variety.firsts(4).tolist() == [0, 20, 40, 60]
    assert variety.firsts(100).tolist() == [*range(0, 80, 2)]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([2, 2, 2], ["all 3 labelled images are of class c: the accuracy means little"]),
        ([0, 1, 1], ["3 of 5 classes have no labelled image: c, d, e; the accuracy covers only the others"]),
        ([0, 1, 2, 4], ["1 of 5 classes have no labelled image: d; the accuracy covers only the others"]),
        ([0, 1, 2, 3, 4], []),
    ],
)
def test_labels_on_which_accuracy_says_little(labels: list[int], expected: list[str]) -> None:
    assert [*weak_classes(np.array(labels), "abcde")] == expected
    assert not [*weak_classes(None, "abcde")]
