"""Scales against ONNX Runtime's own arithmetic; calibrators against the raw values, and against ONNX Runtime's own."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import HistogramCollector

from paraexport.precision.calibration.calibrators import (
    CALIBRATORS,
    ENTROPY_BINS,
    FRACTIONS,
    PERCENT,
    QUANTISED_BINS,
    Range,
    Scale,
    quantised,
    scale_for,
)
from paraexport.precision.calibration.histograms import BINS, Histogram, count_in_bins

Reals = NDArray[np.float32]
LARGEST = float(np.finfo(np.float32).max)
RANDOM = np.random.default_rng(0)
DRAWN: dict[str, NDArray[Any]] = {
    "normal": RANDOM.standard_normal(20000),
    "after GELU": np.abs(RANDOM.standard_normal(20000)) ** 1.5 - 0.17,
    "heavy tails": RANDOM.standard_t(3, 20000),
    "one outlier of 1e4": np.append(RANDOM.standard_normal(20000), 1e4),
    "one outlier of -1e4": np.append(RANDOM.standard_normal(20000), -1e4),
    "positive": RANDOM.uniform(2, 3, 20000),
    "negative": RANDOM.uniform(-3, -2, 20000),
    "constant": np.full(100, 0.7),
    "negative constant": np.full(100, -0.7),
    "all zero": np.zeros(100),
    "denormal": RANDOM.standard_normal(1000) * 1e-42,
    "huge": RANDOM.uniform(-1, 1, 1000) * LARGEST,
}
SAMPLES: dict[str, Reals] = {name: values.astype(np.float32) for name, values in DRAWN.items()}
signs = pytest.mark.parametrize("signed", [False, True], ids=["u8", "s8"])
samples = pytest.mark.parametrize("values", SAMPLES.values(), ids=SAMPLES)
ANY = st.floats(-(2.0**127), 2.0**127, width=32)
"""Not up to the largest float32 itself, of which 127 times a 127th may round to infinity."""


def histogram(values: Reals) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, count_in_bins(values, max(-low, high)))


@functools.lru_cache
def there_and_back(*, signed: bool) -> onnxruntime.InferenceSession:
    text = """<ir_version: 9, opset_import: ["" : 19]> g (float[n] x, float s, KIND z) => (float[n] y)
    { q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }"""
    model = onnx.parser.parse_model(text.replace("KIND", "int8" if signed else "uint8"))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def on_runtime(values: Reals, scale: Scale) -> Reals:
    kind = np.int8 if scale.signed else np.uint8
    inputs = {"x": values, "s": np.asarray(scale.scale, np.float32), "z": np.asarray(scale.zero_point, kind)}
    return np.asarray(there_and_back(signed=scale.signed).run(None, inputs)[0])


def mean_square(values: Reals, ends: Range, *, signed: bool) -> float:
    wide = values.astype(np.float64)
    return float(((on_runtime(values, scale_for(ends, signed=signed)).astype(np.float64) - wide) ** 2).mean())


@signs
def test_quantised_is_what_onnxruntime_computes_ties_and_saturation_too(signed: bool) -> None:
    scale = scale_for((-0.25 * 127, 0.25 * 127 if signed else 0.25 * 128), signed=signed)
    assert scale.scale == 0.25
    values = (np.arange(-1200, 1200) / 32).astype(np.float32)  # eighths of a step: ties fall on even integers
    got = quantised(values.astype(np.float64), scale)
    lowest, highest = scale.bounds
    inside = (got >= (lowest - scale.zero_point) * 0.25) & (got <= (highest - scale.zero_point) * 0.25)
    assert inside.all()
    expected = on_runtime(values, scale)
    if signed:
        expected = np.maximum(expected, np.float32(-127 * 0.25))  # -128 is left out, as in weights
    np.testing.assert_array_equal(got, expected)


@given(ANY, ANY, st.lists(ANY, min_size=1, max_size=20), st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_range_gives_a_scale_that_onnxruntime_takes(
    low: float, high: float, values: list[float], signed: bool
) -> None:
    low, high = min(low, high), max(low, high)
    scale = scale_for((low, high), signed=signed)
    assert np.float32(scale.scale) == scale.scale
    assert np.isfinite(scale.scale)
    assert scale.scale > 0
    assert scale.bounds[0] <= scale.zero_point <= scale.bounds[1]
    within = np.clip(np.array([0, low, high, *values], np.float32), min(low, 0), max(high, 0)).astype(np.float32)
    real = on_runtime(within, scale).astype(np.float64)
    assert real[0] == 0, "zero is an integer"
    assert np.abs(real - within).max() <= 0.505 * scale.scale, "nothing in the range is clipped"
    assert np.abs(quantised(within.astype(np.float64), scale) - real).max() <= 1.001 * scale.scale  # near a tie


@samples
@signs
def test_minmax_is_the_extremes(values: Reals, signed: bool) -> None:
    assert CALIBRATORS["minmax"](histogram(values), signed) == (values.min(), values.max())


@samples
@pytest.mark.parametrize(
    ("name", "signed"), [*itertools.product(("minmax", "mse", "percentile"), (False, True)), ("entropy", True)]
)
def test_every_calibrator_stays_within_what_it_saw(name: str, values: Reals, signed: bool) -> None:
    low, high = CALIBRATORS[name](histogram(values), signed)
    largest = float(np.abs(values).max())
    bin_width = 2 * largest / (ENTROPY_BINS if name == "entropy" else BINS)
    assert np.isfinite([low, high]).all()
    assert low <= high
    assert -largest - bin_width <= low
    assert high <= largest + bin_width
    scale = scale_for((low, high), signed=signed)
    assert scale.scale > 0
    if len(set(values.tolist())) == 1:
        np.testing.assert_allclose(on_runtime(values[:1], scale), values[:1], rtol=1e-3 if name == "entropy" else 1e-6)


@samples
@signs
def test_percentile_is_that_of_the_sorted_values_within_a_bin(values: Reals, signed: bool) -> None:
    low, high = CALIBRATORS["percentile"](histogram(values), signed)
    bin_width = 2 * float(np.abs(values).max()) / BINS
    wide = np.sort(values.astype(np.float64))
    below, above = (np.percentile(wide, share, method="nearest") for share in (100 - PERCENT, PERCENT))
    if signed:
        below, above = -max(-below, above), max(-below, above)
    # Where the values jump at the percentile itself, either side of the jump is right.
    jump = max(np.diff(wide)[[0, -1]], default=0.0) if len(values) <= 20001 else 0.0
    assert abs(low - below) <= max(2 * bin_width, jump) * 1.001
    assert abs(high - above) <= max(2 * bin_width, jump) * 1.001


def test_percentile_leaves_one_outlier_out() -> None:
    for signed, sign in itertools.product((False, True), (1, -1)):
        low, high = CALIBRATORS["percentile"](histogram(SAMPLES["one outlier of 1e4"] * np.float32(sign)), signed)
        assert max(-low, high) < 10


@samples
@signs
def test_mse_is_no_worse_on_the_raw_values_than_any_end_that_brute_force_tries(values: Reals, signed: bool) -> None:
    hist = histogram(values)
    best_mse = mean_square(values, CALIBRATORS["mse"](hist, signed), signed=signed)
    if signed:
        tried = [(-float(one) * hist.largest, float(one) * hist.largest) for one in FRACTIONS]
    else:
        tried = [(float(a) * hist.low, float(b) * hist.high) for a in FRACTIONS[::5] for b in FRACTIONS[::5]]
    best = min(mean_square(values, ends, signed=signed) for ends in tried)
    # A bin stands for its middle: 4096 bins over the range, where int8 has 255 steps.
    assert best_mse <= 1.02 * best + (2 * hist.largest / BINS) ** 2
    assert best_mse <= mean_square(values, (hist.low, hist.high), signed=signed) * 1.02 + (2 * hist.largest / BINS) ** 2


@pytest.mark.parametrize("name", ["normal", "after GELU", "one outlier of 1e4", "negative"])
def test_entropy_is_that_of_onnxruntime_on_the_raw_values(name: str) -> None:
    values = SAMPLES[name]
    collector = HistogramCollector("entropy", True, ENTROPY_BINS, QUANTISED_BINS, PERCENT, "same")
    collector.collect({"x": [values]})
    expected = collector.compute_collection_result()["x"]
    low, high = CALIBRATORS["entropy"](histogram(values), True)
    few_bins = 16 * 2 * float(np.abs(values).max()) / ENTROPY_BINS
    assert abs(low - expected[0]) <= few_bins
    assert abs(high - expected[1]) <= few_bins
