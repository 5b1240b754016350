"""Preprocessing in C++ gives the same bits as in Python, for drawn sizes, filters, crops and channels."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from paraexport.bundle import Bundle, read_manifest
from paraexport.errors import DataError
from paraexport.images.preprocess import prepare_pixels
from paraexport.model.spec import Preprocessing
from tests.bundle.forging import copied, forge
from tests.cpp.library import BAD_INPUT, BGR, CEngine, FailedError, Library

FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")
CONFIGS, IMAGES = 13, 50
"""For each filter and each number of channels: 4 · 2 · 13 · 50 = 5200 cases."""


def drawn_preprocessing(pick: np.random.Generator, channels: int, interpolation: str) -> dict[str, Any]:
    resize: Any = int(pick.integers(12, 40))
    if pick.random() < 0.6:
        resize = [int(pick.integers(8, 60)), int(pick.integers(12, 60))]
    count = int(pick.choice([1, channels]))
    return {
        "interpolation": interpolation,
        "resize": resize,
        "mean": pick.uniform(0, 1, count).tolist(),
        "std": pick.uniform(0.05, 1, count).tolist(),
    }


def drawn_pixels(pick: np.random.Generator, channels: int) -> NDArray[np.uint8]:
    """Noise or a coarse pattern, of any shape; small ones are the hardest."""
    height, width = (int(side) for side in np.exp(pick.uniform(0, np.log(300), 2)).astype(int) + 1)
    if pick.random() < 0.5:
        return pick.integers(0, 256, (height, width, channels), np.uint8)
    return (pick.integers(0, 2, (height, width, channels)) * 255).astype(np.uint8)


@pytest.fixture
def sources(small_bundle: Bundle, colour_bundle: Bundle) -> dict[int, Bundle]:
    """A bundle for each number of channels."""
    return {1: small_bundle, 3: colour_bundle}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("interpolation", FILTERS)
def test_drawn_cases_are_the_bits_of_python(
    interpolation: str, channels: int, library: Library, sources: dict[int, Bundle], tmp_path: Path
) -> None:
    pick = np.random.default_rng([FILTERS.index(interpolation), channels])
    cases = 0
    for number in range(CONFIGS):
        bundle = copied(sources[channels].path, tmp_path / f"{number}.bundle")
        change = drawn_preprocessing(pick, channels, interpolation)
        forge(bundle, lambda raw, change=change: raw["preprocessing"].update(change))  # type: ignore[misc]
        preprocessing = read_manifest(bundle).preprocessing
        with library.open(bundle) as ours:
            for _ in range(IMAGES):
                require_equal(ours, preprocessing, drawn_pixels(pick, channels))
                cases += 1
    assert cases == CONFIGS * IMAGES


def prepared_or_refused(preprocessing: Preprocessing, pixels: NDArray[np.uint8]) -> NDArray[np.float32] | str:
    try:
        return prepare_pixels(pixels, preprocessing)
    except DataError as error:
        return str(error)


def require_equal(ours: CEngine, preprocessing: Preprocessing, pixels: NDArray[np.uint8]) -> None:
    expected = prepared_or_refused(preprocessing, pixels)
    if isinstance(expected, str):
        with pytest.raises(FailedError) as caught:
            ours.prepare(pixels)
        assert (caught.value.status, str(caught.value)) == (BAD_INPUT, expected)
        return
    got = ours.prepare(pixels)
    differing = (got.view(np.int32) != expected.view(np.int32)).sum()
    assert not differing, f"{differing} values differ for {pixels.shape} and {preprocessing}"


def test_every_order_of_channels_is_converted_as_in_python(
    library: Library, small_bundle: Bundle, colour_bundle: Bundle
) -> None:
    from PIL import Image

    pick = np.random.default_rng(0)
    rgba = pick.integers(0, 256, (37, 23, 4), np.uint8)
    rgb = np.ascontiguousarray(rgba[:, :, :3])
    grey = np.asarray(Image.fromarray(rgb).convert("L"))[:, :, None]
    reverse = np.ascontiguousarray(rgba[:, :, [2, 1, 0, 3]])
    for bundle, channels in ((small_bundle, 1), (colour_bundle, 3)):
        manifest = bundle.manifest
        for pixels, order, same in (
            (rgb, 0, rgb), (rgba, 0, rgb), (np.ascontiguousarray(reverse[:, :, :3]), BGR, rgb), (reverse, BGR, rgb),
            (grey, 0, np.repeat(grey, 3, 2)),
        ):  # fmt: skip
            expected = grey if channels == 1 else same
            with library.open(bundle.path) as ours:
                got = ours.prepare(pixels, order)
            np.testing.assert_array_equal(got, prepare_pixels(np.ascontiguousarray(expected), manifest.preprocessing))


def test_rows_may_be_apart(library: Library, colour_bundle: Bundle) -> None:
    wide = np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)
    part = wide[3:30, 5:50]
    with library.open(colour_bundle.path) as ours:
        expected = prepare_pixels(np.ascontiguousarray(part), colour_bundle.manifest.preprocessing)
        np.testing.assert_array_equal(ours.prepare(part), expected)


def test_a_large_photo_is_prepared_alike(library: Library, colour_bundle: Bundle) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    with library.open(colour_bundle.path) as ours:
        require_equal(ours, colour_bundle.manifest.preprocessing, pixels)


def test_extreme_shapes_are_refused_as_in_python(library: Library, small_bundle: Bundle, tmp_path: Path) -> None:
    bundle = copied(small_bundle.path, tmp_path / "a.bundle")
    forge(bundle, lambda raw: raw["preprocessing"].update(resize=2000))
    preprocessing = read_manifest(bundle).preprocessing
    with library.open(bundle) as ours:
        for shape in itertools.permutations((1, 70000)):
            require_equal(ours, preprocessing, np.zeros((*shape, 1), np.uint8))


def test_a_colour_image_does_not_fit_a_model_of_other_channels(library: Library, small_bundle: Bundle) -> None:
    with library.open(small_bundle.path) as ours, pytest.raises(FailedError, match="1, 3 or 4 channels, got 2"):
        ours.prepare(np.zeros((4, 4, 2), np.uint8))


def test_the_made_up_raw_images_of_the_golden_data_are_prepared_alike(library: Library, every_bundle: Bundle) -> None:
    from paraexport.checks.golden import read_all

    raw = read_all(every_bundle.files).raw
    assert len(raw) >= 5
    with library.open(every_bundle.path) as ours:
        for image in raw:
            np.testing.assert_array_equal(ours.prepare(image.pixels), image.prepared)
    assert json.loads((every_bundle.path / "manifest.json").read_text())["preprocessing"]["resample"]
