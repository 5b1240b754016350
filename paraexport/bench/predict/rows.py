"""Predicts bundles on devices: one row for each device, bundle, layout and batch size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paraexport.bench.bench import distinct_names
from paraexport.bench.predict.devices import CPU, DEVICES
from paraexport.bench.predict.latency import Device, Latency, predict
from paraexport.bench.predict.layouts import LAYOUTS, require, write_layouts
from paraexport.bench.predict.runtimes import measured_cpu
from paraexport.bundle import MODEL, Bundle, read_bundle
from paraexport.bundle.records import Manifest
from paraexport.errors import InputError

if TYPE_CHECKING:
    from paraexport.graph.kernels import Kernel

BATCHES = (1, 8, 64)
CHECKED, UNCHECKED = 1.5, 2.0
"""How far off a prediction may be. `benchmarks/results/predictions.md` has the rows that were checked: CPUs, and GPUs
with large batches. Where starts and transfers take longest on a GPU, nothing was checked, and 2 is a guess."""
ASSUMPTIONS = (
    "Nothing ran: these are predictions, from multiply-adds, bytes and starts of kernels.",
    "CPU: on the machine of the fit, float32 was within a factor of 1.5; int8 and other machines are less certain. "
    "GPU: none was measured; large batches agree with published throughput, small batches are unchecked.",
    "GPU: CUDA graphs, boost clocks, sums of fp16 products in float32, TF32 off, no sparsity; images go from host to "
    "device as float32; kernels run one after another, so several streams may make branches and folded faster.",
)
KernelsOf = Callable[[str, int], Sequence["Kernel"]]
"""From layout and batch."""


@dataclass(frozen=True)
class Row:
    """A predicted latency of one call."""

    device: str
    name: str
    """Of the bundle."""
    layout: str
    this_bundle: bool
    """Whether the bundle has this layout."""
    precision: str
    batch: int
    latency_ms: float
    low_ms: float
    high_ms: float
    images_per_s: float
    kernels: int
    arithmetic_ms: float
    """The parts. Arithmetic and memory may overlap, so their sum may exceed the latency."""
    memory_ms: float
    starts_ms: float
    transfer_ms: float
    mostly: str
    """The largest part."""


@dataclass(frozen=True)
class Prediction:
    """The rows, and what they rest on."""

    rows: tuple[Row, ...]
    devices: tuple[Device, ...]
    assumptions: tuple[str, ...] = ASSUMPTIONS


def predict_bundles(
    paths: Sequence[Path], devices: Sequence[str], batches: Sequence[int] | None = None, threads: int | None = None
) -> Prediction:
    """Predict every layout of the bundles on the devices.

    If a bundle has a spec, all layouts are written for it. Else its own graph is read, and only its layout is
    predicted.

    Args:
        devices: names in the table, or `cpu`.
        batches: None for `BATCHES`.
        threads: of the CPU; None for all.

    Raises:
        BundleError: a bundle is incomplete or was changed.
        InputError: a shape in a graph is unknown, or a CPU was never measured with a target or a precision.
        MissingError: a library that reads graphs is not installed.
    """
    rows, used = [], {}
    for name, bundle in zip(distinct_names(paths), map(read_bundle, paths), strict=True):
        manifest = bundle.manifest
        own = {key: device(key, manifest.target, threads) for key in devices}
        for each in own.values():
            require_precision(each, manifest.precision)
        used.update({each.title: each for each in own.values()})
        layouts, kernels_of = layouts_of(bundle)
        values = math.prod(int(size) for size in manifest.inputs[0].shape[1:])
        for batch in batches or BATCHES:
            for layout in layouts:
                kernels = kernels_of(layout, batch)
                for each in own.values():
                    latency = predict(kernels, each, manifest.precision, batch * values)
                    rows.append(row(each, name, layout, manifest, batch=batch, latency=latency))
    rows.sort(key=lambda row: (list(devices).index(row.device), row.batch))
    return Prediction(tuple(rows), tuple(used.values()))


def device(name: str, target: str, threads: int | None) -> Device:
    return measured_cpu(target, threads) if name == CPU else DEVICES[name]


def require_precision(device: Device, precision: str) -> None:
    if precision not in device.peaks:
        raise InputError(
            "this precision was never measured there",
            where=f"--predict {device.name}",
            expected=" or ".join(device.peaks),
            got=precision,
        )


def layouts_of(bundle: Bundle) -> tuple[tuple[str, ...], KernelsOf]:
    """The layouts that can be predicted, and their kernels."""
    if (spec := bundle.manifest.spec) is not None:
        graphs = write_layouts(spec)
        return LAYOUTS, graphs.kernels
    require(("onnx", "onnx_ir"))
    from paraexport.graph.kernels import kernels
    from paraexport.graph.onnx_file import load

    path = bundle.files.at(MODEL)
    graph = load(path).graph

    def kernels_of(_layout: str, batch: int) -> Sequence[Kernel]:
        try:
            return kernels(graph, batch)
        except ValueError as error:
            remedy = "predict a bundle of the same model for another target, or in fp32"
            raise InputError(f"cannot predict this graph: {error}", where=bundle.path / MODEL, remedy=remedy) from error

    return (bundle.manifest.layout,), kernels_of


def row(device: Device, name: str, layout: str, manifest: Manifest, *, batch: int, latency: Latency) -> Row:
    factor = CHECKED if device.name == CPU or latency.bound in ("arithmetic", "memory") else UNCHECKED
    return Row(
        device.name,
        name,
        layout,
        layout == manifest.layout,
        manifest.precision,
        batch,
        1e3 * latency.total_s,
        1e3 * latency.total_s / factor,
        1e3 * latency.total_s * factor,
        batch / latency.total_s,
        latency.kernels,
        1e3 * latency.arithmetic_s,
        1e3 * latency.memory_s,
        1e3 * latency.starts_s,
        1e3 * latency.transfer_s,
        latency.bound,
    )
