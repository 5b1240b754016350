"""Measure the fraction of the roofline: the least time that arithmetic and memory need, divided by the latency.

    python -m benchmarks.roofline                    # our layouts in float32, on the CPU of this machine

The least time of a graph, its floor, is max(operations / peak, bytes / bandwidth). Only products of matrices count: two
operations for a multiply-add, every operand read once, every result written once. `benchmarks.harness.ceilings`
measures peak and bandwidth in the same run.

The fraction shows how much of the latency the products explain. It can exceed 1, because what stays in a cache between
two products is counted as if memory moved it.
"""

from __future__ import annotations

import functools
import math
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import onnx_ir as ir

from benchmarks.harness import ceilings, machine, worker
from benchmarks.harness.ceilings import Ceilings
from benchmarks.harness.subjects import OURS, prepare, released
from paraexport import targets
from paraexport.graph.cost import node_multiply_adds, with_batch
from paraexport.graph.query import is_op, operands
from paraexport.timing.calls import time_calls
from paraexport.timing.stability import repeat_until_stable

PRECISIONS = {ir.DataType.FLOAT: "fp32", ir.DataType.FLOAT16: "fp16", ir.DataType.BFLOAT16: "bf16"}
CALLS = 20
"""In a window."""


@dataclass(frozen=True)
class Work:
    """The work of the products of a graph in one run."""

    operations: Mapping[str, int]
    """By precision; a multiply-add is two operations."""
    weight_bytes: int
    activation_bytes: int
    """Read and written."""

    @property
    def bytes(self) -> int:
        return self.weight_bytes + self.activation_bytes

    def floor_s(self, measured: Ceilings) -> float:
        """The least time that this work can take, one precision after another.

        Raises:
            KeyError: the ceilings have no peak for one of its precisions.
        """
        arithmetic_s = sum(count / measured.peaks[precision] for precision, count in self.operations.items())
        return max(arithmetic_s, self.bytes / measured.bandwidth)


def count_work(graph: ir.Graph, batch: int) -> Work:
    """The work of one run on `batch` images.

    Raises:
        ValueError: a shape is unknown, as it is behind operators that only one runtime has.
    """
    operations: Counter[str] = Counter()
    weights = activations = 0
    for node in with_batch(graph, batch):
        count = node_multiply_adds(node)
        if count is None:
            raise ValueError(f"no shape to count multiply-adds from: {node.name or node.op_type}")
        if count:
            read = [stored_value(value) for value in operands(node)]
            operations[product_precision(read)] += 2 * count
            weights += sum(size_bytes(value) for value in read if is_weight(value))
            written = size_bytes(node.outputs[0])
            activations += written + sum(size_bytes(value) for value in read if not is_weight(value))
    return Work(dict(operations), weights, activations)


def stored_value(value: ir.Value) -> ir.Value:
    """The integers behind a dequantised value, because a product in int8 reads those; any other value itself."""
    node = value.producer()
    return operands(node)[0] if node is not None and is_op(node, "DequantizeLinear") else value


def is_weight(value: ir.Value) -> bool:
    return value.const_value is not None


def product_precision(values: list[ir.Value]) -> str:
    """The precision of a product with these operands."""
    if all(value.dtype in (ir.DataType.INT8, ir.DataType.UINT8) for value in values[:2]):
        return "int8"
    return PRECISIONS.get(values[0].dtype or ir.DataType.FLOAT, "fp32")


def size_bytes(value: ir.Value) -> int:
    sizes = [size for size in value.shape or () if isinstance(size, int)]
    if value.shape is None or len(sizes) < len(value.shape):
        raise ValueError(f"no shape to count bytes from: {value.name}")
    return math.ceil(math.prod(sizes) * (value.dtype or ir.DataType.FLOAT).itemsize)


@click.command(help="Measure how much of the latency of each layout its products explain.")
@click.option("--branches", default=16, show_default=True, help="L.")
@click.option("--depth", default=2, show_default=True, help="M, layers in a branch.")
@click.option("--batch", "batches", multiple=True, default=(1, 8), show_default=True, help="Images in a call.")
@click.option("--threads", default=2, show_default=True, help="Threads of each runtime.")
def main(*, branches: int, depth: int, batches: tuple[int, ...], threads: int) -> None:
    measured = ceilings.measure("cpu", threads)
    click.echo(f"{machine.describe().line()}\n\n{measured.table()}\n")
    click.echo("| layout | runtime | batch | GFLOP | MB | floor ms | ms | fraction |\n|-|-|-|-|-|-|-|-|")
    with tempfile.TemporaryDirectory() as temporary:
        subject = prepare(released(branches, depth, "cls"), Path(temporary) / "subject", batches, OURS)
        for runtime in ("onnxruntime", "openvino"):
            if missing := targets.get(runtime).availability().missing:
                click.echo(f"| - | {runtime} | skipped: {missing} | | | | | |")
                continue
            for layout in OURS:
                graph = ir.load(subject.folder / layout / "model.onnx").graph
                for batch in batches:
                    work = count_work(graph, batch)
                    run, _ = worker.open_model(runtime, subject.folder, layout, batch, threads)
                    windows = repeat_until_stable(functools.partial(time_calls, run, at_least=CALLS))
                    counted = f"{sum(work.operations.values()) / 1e9:.3g} | {work.bytes / 1e6:.3g}"
                    floor_ms = 1e3 * work.floor_s(measured)
                    latency = f"{windows.latency_ms:.3g}{'' if windows.stable else ' (unstable)'}"
                    times = f"{floor_ms:.3g} | {latency} | {floor_ms / windows.latency_ms:.2f}"
                    click.echo(f"| {layout} | {runtime} | {batch} | {counted} | {times} |")


if __name__ == "__main__":
    main()
