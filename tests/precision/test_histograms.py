"""Extremes and histograms of values on calibration images agree with the same graph in NumPy."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from paraexport.errors import DataError
from paraexport.precision.calibration.histograms import BINS, count_in_bins, largest_magnitudes, observe_histograms

Reals = NDArray[np.float32]
MODEL = ir.from_proto(
    onnx.parser.parse_model("""<ir_version: 9, opset_import: ["" : 19]>
    g (float[n, 1, 2, 3] x) => (float[n, 1, 2, 3] z) { y = Neg (x) u = Relu (x) z = Mul (y, y) }""")
)
NAMES = ["y", "u", "z"]
IMAGES = (np.random.default_rng(0).standard_normal((12, 1, 2, 3)) * 3).astype(np.float32)


def expected(images: Reals) -> dict[str, Reals]:
    return {"y": -images, "u": np.maximum(images, 0), "z": images * images}


def cut(images: Reals, *places: int) -> list[Reals]:
    return np.split(images, places)


@pytest.mark.parametrize("places", [(), (1,), (5, 6, 11)])
def test_extremes_are_exact_and_every_number_is_counted_once(places: tuple[int, ...]) -> None:
    seen = observe_histograms(MODEL, NAMES, lambda: cut(IMAGES, *places))
    for name, values in expected(IMAGES).items():
        assert (seen[name].low, seen[name].high) == (values.min(), values.max())
        assert seen[name].counts.sum() == values.size
        edge = float(np.abs(values).max())
        counts, _ = np.histogram(values.astype(np.float64), BINS, (-edge, edge))
        # A number at an edge may round into the bin beside it.
        assert np.abs(np.cumsum(seen[name].counts) - np.cumsum(counts)).max() <= 1
        np.testing.assert_allclose(
            seen[name].centres, np.convolve(np.linspace(-edge, edge, BINS + 1), [0.5, 0.5], "valid"), atol=1e-12 * edge
        )


@given(st.lists(st.integers(1, 11), max_size=4, unique=True).map(sorted))
@settings(max_examples=20, deadline=None)
def test_several_batches_are_as_one(places: list[int]) -> None:
    whole, parts = (observe_histograms(MODEL, NAMES, lambda at=at: cut(IMAGES, *at)) for at in ([], places))  # type: ignore[misc]
    for name in NAMES:
        assert (whole[name].low, whole[name].high) == (parts[name].low, parts[name].high)
        np.testing.assert_array_equal(whole[name].counts, parts[name].counts)


@given(arrays.arrays(np.float32, 50, elements=st.floats(-1.0000000150474662e30, 1.0000000150474662e30, width=32)))
@settings(max_examples=100, deadline=None)
def test_every_number_is_in_the_bin_that_covers_it(values: Reals) -> None:
    edge = float(np.abs(values).max())
    counts = count_in_bins(values, edge)
    assert counts.sum() == values.size
    for value in values if edge else []:
        place = min(int((float(value) / edge + 1) * BINS / 2), BINS - 1)
        assert counts[max(place - 1, 0) : place + 2].sum() >= 1


def test_zeros_are_all_in_the_middle() -> None:
    counts = count_in_bins(np.zeros(7, np.float32), 0.0)
    assert counts[BINS // 2] == counts.sum() == 7


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_a_value_that_is_not_finite_is_named_whichever_batch_it_is_in(wrong: float, batch: int) -> None:
    batches = cut(IMAGES.copy(), 4, 8)
    batches[batch][1, 0, 1, 2] = wrong
    with pytest.raises(DataError, match=r"y: a value is not finite on the calibration images"):
        observe_histograms(MODEL, NAMES, lambda: batches)


def test_a_product_that_overflows_is_named_and_what_it_is_made_of_is_not() -> None:
    batches = [IMAGES, IMAGES * np.float32(1e25)]
    with pytest.raises(DataError, match=r"z: a value is not finite"):
        observe_histograms(MODEL, NAMES, lambda: batches)


def test_nothing_is_asked_for_and_nothing_is_read() -> None:
    assert observe_histograms(MODEL, [], lambda: pytest.fail("images were read")) == {}


def test_no_images_are_an_error() -> None:
    with pytest.raises(DataError, match="no calibration image"):
        observe_histograms(MODEL, NAMES, list)


def test_the_largest_numbers_alone() -> None:
    found = largest_magnitudes(MODEL, NAMES, lambda: cut(IMAGES, 3))
    assert found == {name: float(np.abs(values).max()) for name, values in expected(IMAGES).items()}
