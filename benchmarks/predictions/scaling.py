"""What the cost model says about many branches, large models and many GPUs: the tables of `docs/scaling.md`.

Nothing here was measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import click

from benchmarks.harness.subjects import released
from benchmarks.predictions.graphs import kernels_of
from benchmarks.predictions.published import vit
from paraexport.bench.predict.devices import DEVICES
from paraexport.bench.predict.latency import Device, Latency, exchange_s, predict
from paraexport.bench.predict.layouts import LAYOUTS
from paraexport.model.spec import Spec

PRECISION, HALF_BYTES = "fp16", 2
BATCHES = (1, 8, 64)
DEPTH = 2
FREE = 1.25
"""More branches are free up to this factor of the latency of one branch, as in the gate of `make gpu-check`."""
MOST_BRANCHES = 1024
OTHER_STARTS_S = (1e-6, 4e-6)
"""The time between kernels is an assumption, and decides how many branches are free."""
RELEASED = released(16, DEPTH, "cls")
WIDTHS = (384, 768, 1024)
"""D of the larger models: ViT-S, ViT-B and ViT-L, with 197 tokens."""
LARGE = ((768, 6), (1024, 12), (1024, 48))
"""D and L of the models of the table of large models, with two layers in a branch."""
GPUS = (1, 2, 4, 8)
PRICES = {"h200": 4.0, "h100": 3.0, "a100": 2.0, "l4": 0.8, "rtx4090": 0.5, "rtx5090": 0.8}
"""US dollars for an hour of one GPU. Assumptions: prices differ by provider, contract and month."""
Lines = list[list[str]]


def tables(prices: Mapping[str, float]) -> Iterator[tuple[str, Lines]]:
    """Every table with its title."""
    yield "The released model, L = 16, M = 2, fp16: ms of one call", [*layouts_table()]
    yield f"Branches that are free: the largest L within {FREE} times the latency of L = 1, stacked", [*free_table()]
    yield "Large models, fp16, ms of one call", [*large_table()]
    yield "One large model on several GPUs: D = 1024, L = 48, M = 2, fp16, stacked", [*parallel_table(vit_branches(48))]
    yield "The released model on several GPUs: L = 16, M = 2, fp16, stacked", [*parallel_table(RELEASED)]
    yield "A million images, fp16, stacked, batches of 64", [*cost_table(prices)]


def latency(spec: Spec, device: Device, batch: int, layout: str = "stacked", branches: int | None = None) -> Latency:
    values = batch * spec.channels * spec.image_size[0] * spec.image_size[1]
    return predict(kernels_of(spec, layout, batch, branches=branches), device, PRECISION, values)


def vit_branches(branches: int, dim: int = 1024) -> Spec:
    """Branches of two layers with the sizes of a ViT, images of 224 x 224 and patches of 16."""
    return vit(dim, 16, 224, branches, DEPTH)


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}"


def layouts_table() -> Iterator[list[str]]:
    yield ["device", *(f"batch {batch}, {layout}" for batch in BATCHES for layout in LAYOUTS), "stacked, 64: mostly"]
    yield ["-"] * (2 + len(BATCHES) * len(LAYOUTS))
    for device in DEVICES.values():
        cells = [
            milliseconds(latency(RELEASED, device, batch, layout).total_s) for batch in BATCHES for layout in LAYOUTS
        ]
        yield [device.name, *cells, latency(RELEASED, device, BATCHES[-1]).bound]


def free_table() -> Iterator[list[str]]:
    models = {"D = 192": RELEASED} | {f"D = {dim}": vit_branches(2, dim) for dim in WIDTHS}
    columns = [(name, batch) for name in models for batch in (BATCHES if name == "D = 192" else (1, 8))]
    yield ["device", *(f"{name}, batch {batch}" for name, batch in columns)]
    yield ["-"] * (1 + len(columns))
    others = [
        dataclasses.replace(DEVICES["h200"], name=f"h200, a start takes {1e6 * start_s:g} µs", start_s=start_s)
        for start_s in OTHER_STARTS_S
    ]
    for device in (*DEVICES.values(), *others):
        yield [device.name, *(str(free_branches(models[name], device, batch)) for name, batch in columns)]


def free_branches(spec: Spec, device: Device, batch: int) -> int:
    """The largest number of branches that takes at most `FREE` times as long as one."""
    most_s = FREE * latency(spec, device, batch, branches=1).total_s
    low, high = 1, MOST_BRANCHES
    while low < high:
        middle = (low + high + 1) // 2
        fits = latency(spec, device, batch, branches=middle).total_s <= most_s
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def large_table() -> Iterator[list[str]]:
    columns = [(batch, layout) for batch in (1, 64) for layout in ("serial", *LAYOUTS)]
    yield ["device", "D", "L", "weights", *(f"batch {batch}, {layout}" for batch, layout in columns)]
    yield ["-"] * (4 + len(columns))
    for name in ("h200", "a100", "rtx4090"):
        for dim, branches in LARGE:
            spec, device = vit_branches(branches, dim), DEVICES[name]
            cells = [
                milliseconds(
                    (
                        serial(dim, branches * DEPTH, device, batch)
                        if layout == "serial"
                        else latency(spec, device, batch, layout)
                    ).total_s
                )
                for batch, layout in columns
            ]
            yield [name, str(dim), str(branches), f"{weight_bytes(spec) / 1e9:.2f} GB", *cells]


def serial(dim: int, layers: int, device: Device, batch: int) -> Latency:
    """The serial ViT with as many layers. Its layers are branches of one layer each, one after another."""
    kernels = kernels_of(vit(dim, 16, 224), "branches", batch, ("branches",), layers)
    return predict(kernels, device, PRECISION, batch * 3 * 224 * 224)


def weight_bytes(spec: Spec) -> int:
    return HALF_BYTES * sum(kernel.weights for kernel in kernels_of(spec, "stacked", 1))


def parallel_table(spec: Spec) -> Iterator[list[str]]:
    """Branches spread over GPUs, then one sum of [B, D]; beside it, whole models on every GPU."""
    head = [f"batch {batch}: {what}" for batch in (1, 64) for what in ("ms", "speed-up", "images/s", "data parallel")]
    yield ["device", "GPUs", "sum of [64, D], µs", *head]
    yield ["-"] * (3 + len(head))
    for name in ("h200", "rtx4090"):
        device = DEVICES[name]
        for count in GPUS:
            exchange_us = 1e6 * exchange_s(device, count, 64 * spec.dim * HALF_BYTES)
            cells = [cell for batch in (1, 64) for cell in parallel_cells(spec, device, count, batch)]
            yield [name, str(count), f"{exchange_us:.3g}", *cells]


def parallel_cells(spec: Spec, device: Device, count: int, batch: int) -> list[str]:
    alone_s = latency(spec, device, batch).total_s
    total_s = model_parallel_s(spec, device, count, batch)
    data_parallel = count * batch / alone_s
    return [milliseconds(total_s), f"{alone_s / total_s:.2f}", f"{batch / total_s:,.0f}", f"{data_parallel:,.0f}"]


def model_parallel_s(spec: Spec, device: Device, count: int, batch: int) -> float:
    """Every GPU gets all images and runs its share of the branches. Then their class tokens [B, D] are summed."""
    own = latency(spec, device, batch, branches=-(-spec.branches // count)).total_s
    return own + exchange_s(device, count, batch * spec.dim * HALF_BYTES)


def cost_table(prices: Mapping[str, float]) -> Iterator[list[str]]:
    models = {"released, L = 16": RELEASED, "D = 1024, L = 12": vit_branches(12)}
    yield ["device", "USD an hour", *(f"{name}: {what}" for name in models for what in ("images/s", "USD", "mostly"))]
    yield ["-"] * (2 + 3 * len(models))
    for name, price in prices.items():
        cells = []
        for spec in models.values():
            predicted = latency(spec, DEVICES[name], 64)
            rate = 64 / predicted.total_s
            cells += [f"{rate:,.0f}", f"{price / 3600 / rate * 1e6:.3g}", predicted.bound]
        yield [name, f"{price:g}", *cells]


def parse_prices(texts: Sequence[str]) -> dict[str, float]:
    """`h200=3.5` over the prices that are assumed."""
    prices = dict(PRICES)
    for text in texts:
        name, _, value = text.partition("=")
        try:
            price = float(value)
        except ValueError:
            price = -1.0
        if name not in DEVICES or not 0 < price < 1e6:
            raise click.BadParameter(
                f"{text!r}: expected DEVICE=USD with one of {', '.join(DEVICES)}", param_hint="--price"
            )
        prices[name] = price
    return prices
