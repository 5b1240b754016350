"""Predicts every row, and compares it with its measurement."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.predictions.fit import latency_s
from benchmarks.predictions.graphs import kernels_of
from benchmarks.predictions.measurements import Measurement, Part
from benchmarks.predictions.published import Published
from paraexport.bench.predict.devices import DEVICES
from paraexport.bench.predict.latency import predict
from paraexport.bench.predict.runtimes import Runtime
from paraexport.graph.kernels import Kernel

LIMIT = 1.5


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of `predictions.csv`."""

    file: str
    contestant: str
    kind: str
    """`ours`, `peer`, or `published` for results of others on GPUs."""
    where: str
    """Runtime or GPU."""
    branches: int
    depth: int
    batch: int
    precision: str
    layout: str
    part: Part
    measured_ms: float
    predicted_ms: float
    ratio: float
    """Predicted divided by measured."""
    within: bool
    """Whether it is off by at most the limit, in either direction."""


def held_kernels(row: Measurement) -> Sequence[Kernel]:
    return kernels_of(row.spec, row.layout, row.batch)


def compare(rows: Sequence[Measurement], runtimes: Mapping[str, Runtime], peaks: Mapping[str, float]) -> Iterator[Row]:
    for row in rows:
        predicted_ms = 1e3 * latency_s(row, runtimes[row.runtime], peaks[row.file], held_kernels)
        yield Row(
            row.file, row.contestant, "ours" if row.ours else "peer", row.runtime, row.spec.branches, row.spec.depth,
            row.batch, row.precision, row.layout, row.part, row.latency_ms, predicted_ms,
            *judge(predicted_ms, row.latency_ms),
        )  # fmt: skip


def compare_published(rows: Iterator[Published]) -> Iterator[Row]:
    """Images are on the GPU before the call, so nothing is transferred."""
    for row in rows:
        kernels = kernels_of(row.spec, "branches", row.batch, ("branches",), row.layers)
        predicted_ms = 1e3 * predict(kernels, DEVICES[row.device], "fp16").total_s
        yield Row(
            row.file, row.model, "published", row.device, 1, row.layers, row.batch, "fp16", "branches", row.part,
            row.latency_ms, predicted_ms, *judge(predicted_ms, row.latency_ms),
        )  # fmt: skip


def judge(predicted_ms: float, measured_ms: float) -> tuple[float, bool]:
    ratio = predicted_ms / measured_ms
    return ratio, max(ratio, 1 / ratio) <= LIMIT


def off(row: Row) -> float:
    """How far off a prediction is, as a factor of at least 1."""
    return max(row.ratio, 1 / row.ratio)
