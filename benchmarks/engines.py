"""What TensorRT-RTX makes of every layout in every precision, ahead of time: seconds, size, what the plan lists.

    python -m benchmarks.engines -o benchmarks/results/

The released architecture (D = 192, 65 tokens) with random weights, on random images, compiled for all GPUs that
TensorRT-RTX knows. No GPU is needed and nothing is run: these are no latencies.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
import numpy as np

from benchmarks import machine, results
from benchmarks.rewrites import released
from benchmarks.subjects import OURS, seeded_model
from paraexport import drafts
from paraexport.clock import silent
from paraexport.compilation import EngineOptions
from paraexport.dataset import made_up_samples
from paraexport.golden import answers
from paraexport.options import PRECISIONS, Options
from paraexport.spec import Preprocessing, Spec
from paraexport.targets.trt.flavour import RTX
from paraexport.targets.trt.target import TensorRT
from paraexport.trace import trace

TARGET, MAX_BATCH = TensorRT(RTX), 64
TIMES = 3
"""Each is compiled so often; the shortest counts."""
NAME = "engines"


@dataclasses.dataclass(frozen=True)
class Row:
    branches: int
    depth: int
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


def measure(spec: Spec, folder: Path) -> list[Row]:
    model = seeded_model(spec)
    images = Preprocessing(image_size=spec.image_size, channels=spec.channels, resize=spec.image_size)
    samples = made_up_samples(images)
    logits = np.concatenate([answers(model)(batch) for batch in samples.batches(8)])
    seen = drafts.Images(samples, samples, logits)
    traced = folder / "traced/model.onnx"
    traced.parent.mkdir()
    trace(model, spec, traced)
    rows = []
    for precision in PRECISIONS:
        for layout in OURS:
            options = Options(target=TARGET.name, precision=precision, layout=layout, max_batch=MAX_BATCH)
            work = folder / f"{precision}-{layout}"
            work.mkdir()
            (draft,) = drafts.make(traced, options, (TARGET.name,), work, seen)
            rows.append(compiled(spec, draft, precision))
            click.echo(f"{rows[-1]}", err=True)
    return rows


def compiled(spec: Spec, draft: drafts.Draft, precision: str) -> Row:
    seconds = cpu_s = math.inf
    for _ in range(TIMES):
        started, began = time.perf_counter(), time.process_time()
        engine = TARGET.compile_model(draft.folder, MAX_BATCH, EngineOptions(), silent)
        seconds = min(seconds, time.perf_counter() - started)
        cpu_s = min(cpu_s, time.process_time() - began)
    kinds = Counter("·".join(dict.fromkeys(types)) for types in engine.products.values())
    return Row(
        branches=spec.branches,
        depth=spec.depth,
        layout=draft.layout,
        precision=precision,
        seconds=round(seconds, 2),
        cpu_s=round(cpu_s, 2),
        engine_mb=round(engine.size_bytes / 1e6, 1),
        onnx_mb=round((draft.folder / "model.onnx").stat().st_size / 1e6, 1),
        network_layers=engine.network_layers,
        products=", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
        fused_attention=engine.fused_attention,
    )


def page(rows: list[Row], command: str, where: machine.Machine) -> str:
    version = TARGET.availability().version
    head = (
        "L",
        "M",
        "layout",
        "precision",
        "s",
        "CPU s",
        "engine MB",
        "ONNX MB",
        "layers before fusing",
        "products read",
        "fused attention",
    )
    lines = [head, ("-",) * len(head)]
    for row in rows:
        *values, fused = dataclasses.astuple(row)
        lines.append((*map(str, values), "yes" if fused else "no"))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"""# Engines of TensorRT-RTX {version}, compiled ahead of time

`{command}`, batches of 1 to {MAX_BATCH}, all compute capabilities, the shortest of {TIMES} times; nothing was run.
{where.line()}.

{table}
"""


@click.command()
@click.option("-L", "--branches", type=int, multiple=True, default=(16, 4), show_default=True)
@click.option("-M", "--depth", type=int, default=2, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True)
def main(*, branches: tuple[int, ...], depth: int, output: Path) -> None:
    where, rows = machine.describe(), []
    for count in branches:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(released(count, depth, "cls"), Path(folder))
    output.mkdir(parents=True, exist_ok=True)
    results.write_csv(output / f"{NAME}.csv", Row, rows)
    (output / f"{NAME}.md").write_text(page(rows, results.command(), where), encoding="utf-8")


if __name__ == "__main__":
    main()
