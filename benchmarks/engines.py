"""What TensorRT-RTX makes of every layout in every precision, ahead of time: seconds, size, what the plan lists.

    python -m benchmarks.engines -o benchmarks/results/

With every residual and pool; otherwise the released architecture (D = 192, 65 tokens), with random weights, on random
images, compiled for all GPUs that TensorRT-RTX knows. No GPU is needed and nothing is run: these are no latencies.
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
from benchmarks.harness.subjects import OURS
from benchmarks.rewrites import released
from paraexport.model.spec import Pool, Residual, Spec
from paraexport.pipeline.options import PRECISIONS
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
    """Of all threads: what others do on the machine hardly changes it."""
    engine_mb: float
    onnx_mb: float
    network_layers: int
    products: str
    """Nodes by the types that they read, as the plan lists them."""
    fused_attention: bool


def measure(spec: Spec, folder: Path, times: int) -> list[Row]:
    prepared = Prepared(spec, folder / "prepared")
    rows = []
    for precision, layout in itertools.product(PRECISIONS, OURS):
        graph = shutil.copytree(prepared.graph(TARGET.name, layout, precision), folder / f"{precision}-{layout}")
        rows.append(compiled(spec, layout, precision, graph, times))
        click.echo(f"{rows[-1]}", err=True)
    return rows


def compiled(spec: Spec, layout: str, precision: str, folder: Path, times: int) -> Row:
    seconds = cpu_s = math.inf
    for _ in range(times):
        started, began = time.perf_counter(), time.process_time()
        engine = TARGET.compile_model(folder, MAX_BATCH, EngineOptions(), silent)
        seconds = min(seconds, time.perf_counter() - started)
        cpu_s = min(cpu_s, time.process_time() - began)
    kinds = Counter("·".join(dict.fromkeys(types)) for types in engine.products.values())
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
        products=", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
        fused_attention=engine.fused_attention,
    )


def page(rows: list[Row], command: str, where: machine.Machine, times: int) -> str:
    version = TARGET.availability().version
    kinds = [one for one in PRECISIONS if any(row.precision == one for row in rows)]
    fused = (f"{sum(row.fused_attention for row in rows if row.precision == one)} in {one}" for one in kinds)
    lines = [("L", "M", "residual", "pool", "layout", *kinds), ("-",) * (5 + len(kinds))]
    for key in dict.fromkeys(map(variant, rows)):
        of_key = {row.precision: row for row in rows if variant(row) == key}
        lines.append((*map(str, key), *(f"{one.seconds:g} s, {one.engine_mb:g} MB" for one in of_key.values())))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"""# Engines of TensorRT-RTX {version}, compiled ahead of time

`{command}`, batches of 1 to {MAX_BATCH}, all compute capabilities, the shortest of {times}; nothing was run.
{where.line()}.
All {len(rows)} compiled; attention is fused in {", ".join(fused)}. What the plans list is in [{NAME}.csv]({NAME}.csv).

{table}
"""


def variant(row: Row) -> tuple[int, int, str, str, str]:
    return row.branches, row.depth, NAMES[row.residual], row.pool, row.layout


@click.command()
@click.option("-L", "--branches", type=int, multiple=True, default=(16, 4), show_default=True)
@click.option("-M", "--depth", type=int, default=2, show_default=True)
@click.option("--times", type=click.IntRange(min=1), default=3, show_default=True, help="The shortest counts.")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True)
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
