"""Fits the numbers of the CPU runtimes, by least squares of log(predicted / measured).

The latency of the model is linear in its unknowns:

    start · kernels + (1 / efficiency) · operations / peak + (1 / bandwidth) · bytes            float32: 3 numbers
    … + (1 / int8 speed) · operations / (peak · efficiency) + quantised · products              int8: 2 more
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.predictions.measurements import Measurement
from paraexport.bench.predict.latency import predict
from paraexport.bench.predict.runtimes import RUNTIMES, Runtime, cpu
from paraexport.graph.kernels import Kernel

KernelsOf = Callable[[Measurement], Sequence[Kernel]]
UNIT = Runtime(efficiency=1.0, start_s=1.0, bandwidth=1.0, int8_speed=1.0, quantised_s=0.0)
DIGITS, STEPS = 3, 30


def latency_s(row: Measurement, numbers: Runtime, peak: float, kernels_of: KernelsOf) -> float:
    return predict(kernels_of(row), cpu(numbers, peak, threads=row.threads), row.precision).total_s


def fit_runtime(rows: Sequence[Measurement], peaks: Mapping[str, float], kernels_of: KernelsOf) -> Runtime:
    """The numbers of one runtime for float32; those for int8 are not touched.

    Only one layout was measured in PyTorch. There, kernels and bytes grow alike, so bytes get no number of their own.
    """
    terms = [float32_terms(row, peaks[row.file], kernels_of) for row in rows]
    one_layout = len({row.layout for row in rows}) == 1
    start_s, slowness, *memory = solve([term[:2] if one_layout else term for term in terms], rows)
    bandwidth = rounded(1 / memory[0]) if memory else math.inf
    return replace(UNIT, start_s=rounded(start_s), efficiency=rounded(1 / slowness), bandwidth=bandwidth)


def float32_terms(row: Measurement, peak: float, kernels_of: KernelsOf) -> list[float]:
    """Kernels, seconds of arithmetic at the peak, and bytes."""
    unit = predict(kernels_of(row), cpu(UNIT, peak), "fp32")
    return [float(unit.kernels), unit.arithmetic_s, unit.memory_s]


def fit_int8(
    rows: Sequence[Measurement], numbers: Runtime, peaks: Mapping[str, float], kernels_of: KernelsOf
) -> Runtime:
    """The two numbers for int8, after those for float32."""
    terms, fixed = [], []
    for row in rows:
        products = [kernel for kernel in kernels_of(row) if kernel.weighted]
        operations = sum(2 * kernel.multiply_adds for kernel in products)
        slow = replace(numbers, int8_speed=1.0, quantised_s=0.0)
        in_float32_s = operations / (peaks[row.file] * numbers.efficiency)
        fixed.append(latency_s(row, slow, peaks[row.file], kernels_of) - in_float32_s)
        terms.append([in_float32_s, float(len(products))])
    slowness, quantised_s = solve(terms, rows, fixed)
    return replace(numbers, int8_speed=rounded(1 / slowness), quantised_s=rounded(quantised_s))


def solve(
    terms: Sequence[Sequence[float]], rows: Sequence[Measurement], fixed_s: Sequence[float] | None = None
) -> tuple[float, ...]:
    """The positive factors of the terms for which the sum of squares of log(predicted / measured) is least.

    Gauss-Newton steps on the logarithms of the factors, from a least-squares fit of the relative errors.
    """
    measured_s = np.array([row.latency_ms / 1e3 for row in rows])
    fixed, parts = np.array(fixed_s or [0.0] * len(rows)), np.array(terms)
    first = np.linalg.lstsq(parts / measured_s[:, None], 1 - fixed / measured_s, rcond=None)[0]
    assert (first > 0).all(), f"the fit gives impossible numbers: {first}"
    logs = np.log(first)
    for _ in range(STEPS):
        shares = parts * np.exp(logs)
        predicted_s = shares.sum(axis=1) + fixed
        logs = logs - np.linalg.lstsq(shares / predicted_s[:, None], np.log(predicted_s / measured_s), rcond=None)[0]
    return tuple(map(float, np.exp(logs)))


def fit_peak(rows: Sequence[Measurement], runtimes: Mapping[str, Runtime], kernels_of: KernelsOf) -> float:
    """The peak of the machine of a file without a large product, from the float32 rows of the plain export in it.

    With this peak, the median of predicted / measured of these rows is 1.
    """
    low, high = 1e9, 1e13
    while high / low > 1.001:
        middle = float(np.sqrt(low * high))
        ratios = [latency_s(row, runtimes[row.runtime], middle, kernels_of) * 1e3 / row.latency_ms for row in rows]
        low, high = (middle, high) if statistics.median(ratios) > 1 else (low, middle)
    return float(np.sqrt(low * high))


def fit_all(
    rows: Sequence[Measurement], peaks: dict[str, float], kernels_of: KernelsOf
) -> tuple[dict[str, Runtime], dict[str, float]]:
    """The numbers of every runtime, and the peak of every file."""
    fitted = [row for row in rows if row.part == "fit"]
    runtimes = {
        name: fit_runtime([row for row in fitted if row.runtime == name and row.precision == "fp32"], peaks, kernels_of)
        for name in dict.fromkeys(row.runtime for row in fitted)
    }
    peaks = dict(peaks)
    for file in dict.fromkeys(row.file for row in rows if row.file not in peaks):
        scale = [row for row in rows if row.file == file and row.part == "scale"]
        peaks[file] = rounded(fit_peak(scale, runtimes, kernels_of))
    for name in RUNTIMES:
        int8 = [row for row in fitted if row.runtime == name and row.precision == "int8" and row.threads > 1]
        runtimes[name] = fit_int8(int8, runtimes[name], peaks, kernels_of)
    return runtimes, peaks


def rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
