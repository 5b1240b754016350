"""The fit finds planted numbers, every result is read, and the committed page holds what it says."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Sequence

import click
import pytest

from benchmarks.harness.subjects import released
from benchmarks.predictions import fit, measurements, published, scaling
from benchmarks.predictions.measurements import RESULTS, Measurement
from paraexport.bench.predict.devices import DEVICES
from paraexport.bench.predict.runtimes import RUNTIMES, Runtime
from paraexport.graph.kernels import Kernel

PLANTED = Runtime(efficiency=0.7, start_s=3e-6, bandwidth=6e10, int8_speed=3.5, quantised_s=1e-5)
PEAK = 4e11


def invented_kernels(row: Measurement) -> Sequence[Kernel]:
    """A few products and sums that differ between layouts and batches."""
    count = {"branches": 40, "folded": 30, "stacked": 6}[row.layout]
    product = Kernel("shared", 10**7 * row.batch * 30 // count, 10**6 // count, 10**4 * row.batch)
    return [product] * count + [Kernel("shared", 0, 0, 10**5 * row.batch)] * (count // 2)


def planted_rows(precision: str) -> list[Measurement]:
    rows = [
        Measurement(
            "a", "", True, released(2, 2, "cls"), layout, precision, "onnxruntime", batch, 1.0, "fit"
        )
        for layout in ("branches", "folded", "stacked")
        for batch in (1, 8)
    ]  # fmt: skip
    return [
        dataclasses.replace(row, latency_ms=1e3 * fit.latency_s(row, PLANTED, PEAK, invented_kernels)) for row in rows
    ]


def test_the_fit_finds_planted_numbers() -> None:
    peaks = {"a": PEAK}
    found = fit.fit_runtime(planted_rows("fp32"), peaks, invented_kernels)
    assert (found.efficiency, found.start_s, found.bandwidth) == (0.7, 3e-6, 6e10)
    assert fit.fit_int8(planted_rows("int8"), found, peaks, invented_kernels) == PLANTED
    assert fit.fit_peak(planted_rows("fp32"), {"onnxruntime": found}, invented_kernels) == pytest.approx(PEAK, rel=0.01)


def test_every_latency_in_the_results_is_read() -> None:
    rows = measurements.read_all()
    lines = sum(
        bool(line["latency_ms"]) and line["family"] != "peak"
        for name in measurements.CONTESTS
        for line in measurements.contest_rows(name)
    )
    assert len(rows) == lines + 8 + 8 + 56  # two profiles of four calls, eight rows of cpp.md, and those of the paper
    assert {row.part for row in rows} == {"fit", "scale", "check"}
    assert all(row.latency_ms > 0 for row in rows)
    assert {row.file for row in rows if not row.stable} == {"paper/latency.csv"}


def test_the_committed_rows_are_those_of_the_results() -> None:
    with (RESULTS / "predictions.csv").open() as file:
        committed = [*csv.DictReader(file)]
    measured = [row.latency_ms for row in measurements.read_all()]
    measured += [row.latency_ms for row in published.read_published()]
    assert [float(line["measured_ms"]) for line in committed] == pytest.approx(measured, rel=1e-4)
    for line in committed:
        ratio = float(line["predicted_ms"]) / float(line["measured_ms"])
        assert float(line["ratio"]) == pytest.approx(ratio, rel=1e-3)
        assert line["within"] == str(abs(math.log(ratio)) <= math.log(1.5))
    checked = [line for line in committed if line["part"] == "check" and line["precision"] == "fp32"]
    assert len(checked) > 100
    assert all(line["within"] == "True" for line in checked)


def test_prices() -> None:
    assert scaling.parse_prices(["h200=2.5"]) == {**scaling.PRICES, "h200": 2.5}
    for text in ("h200", "b200=1", "h200=-1", "h200=nan"):
        with pytest.raises(click.BadParameter, match="DEVICE=USD"):
            scaling.parse_prices([text])


def test_more_gpus_are_never_slower_than_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one kernel a branch, n GPUs are at most n times as fast."""
    monkeypatch.setattr(
        scaling, "kernels_of", lambda spec, layout, batch, branches=None: [Kernel("x", 10**9, 10**6, 10**5)] * branches
    )
    device, spec = DEVICES["h200"], released(16, 2, "cls")
    alone_s = scaling.model_parallel_s(spec, device, 1, 8)
    for count in (2, 4, 8):
        together_s = scaling.model_parallel_s(spec, device, count, 8)
        assert alone_s / count < together_s < alone_s


def test_the_numbers_of_the_runtimes_are_possible() -> None:
    for numbers in RUNTIMES.values():
        assert 0 < numbers.efficiency <= 1
        assert numbers.int8_speed > 1
