"""Compile every layout and precision with TensorRT-RTX, ahead of time: seconds, size and what the plan lists.

    python -m benchmarks.engines -o benchmarks/results/

The model is the released architecture (D = 192, 65 tokens) with every residual and pool, random weights and random
images. Engines are compiled for all GPUs that TensorRT-RTX supports. No GPU is needed and no engine runs, so there are
no latencies.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from benchmarks.harness import machine, pages
from benchmarks.harness.prepared import Prepared
from benchmarks.harness.subjects import OURS, released
from paraexport.model.spec import Pool, Residual, Spec
from paraexport.pipeline.choices import PRECISIONS
from paraexport.targets.compilation import EngineOptions
from paraexport.targets.trt.flavour import RTX
from paraexport.targets.trt.target import TensorRT
from paraexport.timing.clock import silent

TARGET, MAX_BATCH = TensorRT(RTX), 64
NAME = "engines"
NAMES: dict[Residual, str] = {"normalized": "released", "input": "pre-norm", "post": "post-norm"}
POOLS: tuple[Pool, ...] = ("cls", "mean")


@dataclasses.dataclass(frozen=True)
class Row:
    branches: int
    depth: int
    residual: Residual
    pool: Pool
    layout: str
    precision: str
    seconds: float
    cpu_s: float
    """CPU time of all threads. Other work on the machine hardly changes it."""
    engine_mb: float
    onnx_mb: float
    network_layers: int
    products: str
    """Products by the types that they read, as the plan lists them."""
    fused_attention: bool


def measure(spec: Spec, folder: Path, times: int) -> list[Row]:
    prepared = Prepared(spec, folder / "prepared")
    rows = []
    for precision, layout in itertools.product(PRECISIONS, OURS):
        graph = shutil.copytree(prepared.graph(TARGET.name, layout, precision), folder / f"{precision}-{layout}")
        rows.append(compile_graph(spec, layout, precision, graph, times))
        click.echo(f"{rows[-1]}", err=True)
    return rows


def compile_graph(spec: Spec, layout: str, precision: str, folder: Path, times: int) -> Row:
    seconds = cpu_s = math.inf
    for _ in range(times):
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        engine = TARGET.compile_model(folder, MAX_BATCH, EngineOptions(), silent)
        seconds = min(seconds, time.perf_counter() - started_s)
        cpu_s = min(cpu_s, time.process_time() - started_cpu_s)
    products = Counter("·".join(dict.fromkeys(types)) for types in engine.products.values())
    return Row(
        branches=spec.branches,
        depth=spec.depth,
        residual=spec.residual,
        pool=spec.pool,
        layout=layout,
        precision=precision,
        seconds=round(seconds, 2),
        cpu_s=round(cpu_s, 2),
        engine_mb=round(engine.size_bytes / 1e6, 1),
        onnx_mb=round((folder / "model.onnx").stat().st_size / 1e6, 1),
        network_layers=engine.network_layers,
        products=", ".join(f"{count} {types}" for types, count in sorted(products.items())),
        fused_attention=engine.fused_attention,
    )


def page(rows: list[Row], command: str, where: machine.Machine, times: int) -> str:
    version = TARGET.availability().version
    present = {row.precision for row in rows}
    precisions = [precision for precision in PRECISIONS if precision in present]
    fused = (
        f"{sum(row.fused_attention for row in rows if row.precision == precision)} in {precision}"
        for precision in precisions
    )
    lines = [("L", "M", "residual", "pool", "layout", *precisions), ("-",) * (5 + len(precisions))]
    for key in dict.fromkeys(map(variant, rows)):
        by_precision = {row.precision: row for row in rows if variant(row) == key}
        engines = (by_precision[precision] for precision in precisions)
        lines.append((*map(str, key), *(f"{row.seconds:g} s, {row.engine_mb:g} MB" for row in engines)))
    return f"""# Engines of TensorRT-RTX {version}, compiled ahead of time

`{command}`, batches of 1 to {MAX_BATCH}, all compute capabilities, the shortest of {times}; no engine was run.
{where.line()}.
All {len(rows)} compiled; attention is fused in {", ".join(fused)}. [{NAME}.csv]({NAME}.csv) has what the plans list.

{pages.markdown_table(lines)}
"""


def variant(row: Row) -> tuple[int, int, str, str, str]:
    return row.branches, row.depth, NAMES[row.residual], row.pool, row.layout


@click.command(help="Compile every layout and precision with TensorRT-RTX.")
@click.option("-L", "--branches", type=int, multiple=True, default=(16, 4), show_default=True, help="L.")
@click.option("-M", "--depth", type=int, default=2, show_default=True, help="M, layers in a branch.")
@click.option(
    "--times",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Compilations of each; the shortest counts.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for CSV and page."
)
def main(*, branches: tuple[int, ...], depth: int, times: int, output: Path) -> None:
    where, rows = machine.describe(), []
    for count, residual, pool in itertools.product(branches, NAMES, POOLS):
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(dataclasses.replace(released(count, depth, pool), residual=residual), Path(folder), times)
    output.mkdir(parents=True, exist_ok=True)
    pages.write_csv(output / f"{NAME}.csv", Row, rows)
    (output / f"{NAME}.md").write_text(page(rows, pages.command(), where, times), encoding="utf-8")


if __name__ == "__main__":
    main()
