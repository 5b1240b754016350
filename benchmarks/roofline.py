"""The fraction of the roofline: the time that arithmetic and memory need at least, by the time that was taken.

    python -m benchmarks.roofline                    # this machine's CPU, the layouts in float32

The floor of a graph is max(operations / peak, bytes / bandwidth). Both are counted here, of its products: two
operations a multiply-add; every operand read once and every result written once. Peak and bandwidth are measured in the
same run (`benchmarks.harness.ceilings`). What is no product counts for nothing, and what stays in a cache between two
products
is counted as if it did not: the fraction says how much of the time is accounted for. Above 1, the cache was that good.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import onnx_ir as ir

from benchmarks.harness import ceilings, machine, worker
from benchmarks.harness.ceilings import Ceilings
from benchmarks.harness.subjects import OURS, prepare
from benchmarks.rewrites import released
from paraexport import targets
from paraexport.graph.cost import node_multiply_adds, with_batch
from paraexport.graph.query import is_op, operands

KINDS = {ir.DataType.FLOAT: "fp32", ir.DataType.FLOAT16: "fp16", ir.DataType.BFLOAT16: "bf16"}
WARM_UP, CALLS, BURSTS = 10, 20, 5


@dataclass(frozen=True)
class Work:
    """What the products of a graph do in one run."""

    operations: Mapping[str, int]
    """Two a multiply-add, by the precision that they are in."""
    weight_bytes: int
    activation_bytes: int
    """Read and written."""

    @property
    def bytes(self) -> int:
        return self.weight_bytes + self.activation_bytes

    def floor_s(self, measured: Ceilings) -> float:
        """The time that it takes at least, precision after precision.

        Raises:
            KeyError: no peak was measured for one of its precisions.
        """
        arithmetic_s = sum(count / measured.peaks[kind] for kind, count in self.operations.items())
        return max(arithmetic_s, self.bytes / measured.bandwidth)


def work_of(graph: ir.Graph, batch: int) -> Work:
    """Of one run on `batch` images.

    Raises:
        ValueError: a shape is not known, such as of what follows an operator of a runtime's own.
    """
    operations: Counter[str] = Counter()
    weights = activations = 0
    for node in with_batch(graph, batch):
        count = node_multiply_adds(node)
        if count is None:
            raise ValueError(f"no shape to count multiply-adds from: {node.name or node.op_type}")
        if count:
            read = [stored(value) for value in operands(node)]
            operations[kind_of(read)] += 2 * count
            weights += sum(size_bytes(value) for value in read if is_weight(value))
            written = size_bytes(node.outputs[0])
            activations += written + sum(size_bytes(value) for value in read if not is_weight(value))
    return Work(dict(operations), weights, activations)


def stored(value: ir.Value) -> ir.Value:
    """The integers that a value is made of, where it was quantised: these are what a product in int8 reads."""
    node = value.producer()
    return operands(node)[0] if node is not None and is_op(node, "DequantizeLinear") else value


def is_weight(value: ir.Value) -> bool:
    return value.const_value is not None


def kind_of(read: list[ir.Value]) -> str:
    """The precision of a product with these operands."""
    if all(value.dtype in (ir.DataType.INT8, ir.DataType.UINT8) for value in read[:2]):
        return "int8"
    return KINDS.get(read[0].dtype or ir.DataType.FLOAT, "fp32")


def size_bytes(value: ir.Value) -> int:
    sizes = [size for size in value.shape or () if isinstance(size, int)]
    if value.shape is None or len(sizes) < len(value.shape):
        raise ValueError(f"no shape to count bytes from: {value.name}")
    return math.ceil(math.prod(sizes) * (value.dtype or ir.DataType.FLOAT).itemsize)


@click.command()
@click.option("--branches", default=16, show_default=True, help="L.")
@click.option("--depth", default=2, show_default=True, help="M.")
@click.option("--batch", "batches", multiple=True, default=(1, 8), show_default=True)
@click.option("--threads", default=2, show_default=True)
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
                    work = work_of(graph, batch)
                    run, _ = worker.open_model(runtime, subject.folder, layout, batch, threads)
                    worker.timed_burst(run, WARM_UP)
                    ms = statistics.median(statistics.median(worker.timed_burst(run, CALLS)) for _ in range(BURSTS))
                    counted = f"{sum(work.operations.values()) / 1e9:.3g} | {work.bytes / 1e6:.3g}"
                    floor_ms = 1e3 * work.floor_s(measured)
                    told = f"{floor_ms:.3g} | {ms:.3g} | {floor_ms / ms:.2f}"
                    click.echo(f"| {layout} | {runtime} | {batch} | {counted} | {told} |")


if __name__ == "__main__":
    main()
