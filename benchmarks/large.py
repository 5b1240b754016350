"""Measure builds of large models: seconds, and peak memory as a multiple of the weights.

    python -m benchmarks.large --weights-mb 300 -o benchmarks/results/

The model is a Para-Former with random weights (M = 2, images of 64 x 64, 17 tokens). It is built for every target,
precision and layout, then validated and bisected, and its float32 graph is optimized. Each step is one command, and one
runs at a time. Memory is that of the command and all its processes, with pages of mapped files.
"""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np

from benchmarks.harness import machine, pages
from benchmarks.harness.peak_memory import Run, watched
from benchmarks.harness.subjects import OURS, seeded_model
from paraexport.checkpoint.native import save_checkpoint
from paraexport.model.spec import Preprocessing, Spec
from paraexport.pipeline.choices import PRECISIONS

NAME, DEPTH, IMAGES, MAX_BATCH = "large", 2, 16, 8
LARGE_MB = 1000
TARGETS = ("onnxruntime", "openvino", "tensorrt-rtx")
CASES = [*itertools.product(TARGETS, PRECISIONS, OURS)]
COMMAND = (str(Path(sys.executable).with_name("paraexport")),)


@dataclasses.dataclass(frozen=True)
class Row:
    weights_gb: float
    command: str
    target: str
    precision: str
    layout: str
    seconds: float
    peak: float
    """Peak resident memory divided by the weights in float32."""
    own: float
    """The same without pages of files."""
    stage: str
    """The stage of the peak."""
    failure: str


def choose_spec(weights_mb: float) -> Spec:
    """A model with about this size in float32. A layer has 12 D² weights."""
    dim = 1024 if weights_mb >= LARGE_MB else 512
    branches = max(2, round(weights_mb * 1e6 / (4 * 12 * dim**2 * DEPTH)))
    return Spec(
        image_size=(64, 64), channels=3, classes=10, patch_size=(16, 16), dim=dim, branches=branches, depth=DEPTH,
        heads=dim // 64, head_dim=64, mlp_dim=4 * dim, residual="normalized", qkv_bias=False,
    )  # fmt: skip


def prepare(spec: Spec, folder: Path) -> int:
    """Write `large.pt` and `images.npy`, and return the size of the weights in bytes."""
    model = seeded_model(spec)
    images = Preprocessing(image_size=spec.image_size, channels=spec.channels, resize=spec.image_size)
    save_checkpoint(folder / "large.pt", model, images, tuple(map(str, range(spec.classes))))
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, *spec.image_size, spec.channels), np.uint8)
    np.save(folder / "images.npy", pixels)
    return sum(parameter.nbytes for parameter in model.parameters())


def measure(folder: Path, weights_bytes: int, cases: Sequence[tuple[str, str, str]], extra: bool) -> Iterator[Row]:
    checkpoint, images = str(folder / "large.pt"), str(folder / "images.npy")
    for target, precision, layout in cases:
        bundle = folder / f"{target}-{precision}-{layout}.bundle"
        options = ["--target", target, "--precision", precision, "--layout", layout, "--max-batch", str(MAX_BATCH)]
        run = watched([*COMMAND, "build", checkpoint, "-o", str(bundle), "--calib", images, *options])
        yield measured_row("build", weights_bytes, run, (target, precision, layout))
        if extra and run.code == 0 and target != "tensorrt-rtx":
            for words in (["validate"], ["validate", "--bisect"]):
                done = watched([*COMMAND, *words, str(bundle)])
                yield measured_row(" ".join(words), weights_bytes, done, (target, precision, layout))
        model = bundle / "model.onnx"
        if extra and model.is_file() and (target, precision, layout) == ("onnxruntime", "fp32", "branches"):
            for optimized_layout in OURS[1:]:
                output = folder / "optimized" / "model.onnx"
                done = watched([*COMMAND, "optimize", str(model), "-o", str(output), "--layout", optimized_layout])
                yield measured_row("optimize", weights_bytes, done, ("", "fp32", optimized_layout))
                shutil.rmtree(output.parent, ignore_errors=True)
        shutil.rmtree(bundle, ignore_errors=True)


def measured_row(command: str, weights_bytes: int, run: Run, case: tuple[str, str, str]) -> Row:
    target, precision, layout = case
    errors = [line for line in run.stderr.splitlines() if line.strip()]
    return Row(
        weights_gb=weights_bytes / 1e9,
        command=command,
        target=target,
        precision=precision,
        layout=layout,
        seconds=run.seconds,
        peak=run.peak_bytes / weights_bytes,
        own=run.own_bytes / weights_bytes,
        stage=run.stage,
        failure="" if run.code == 0 else f"exit {run.code}: {errors[-1] if errors else ''}",
    )


def page(rows: Sequence[Row], command: str, here: machine.Machine) -> str:
    cells = [
        [row.command, row.target or "-", row.precision, row.layout, f"{row.seconds:.0f}", f"{row.peak:.2f}",
         f"{row.own:.2f}", row.stage, row.failure or "passed"]
        for row in rows
    ]  # fmt: skip
    head = ["command", "target", "precision", "layout", "s", "peak / weights", "without files", "peak in", "result"]
    table = pages.markdown_table([head, ["-"] * len(head), *cells])
    return f"""# Builds of a model with {rows[0].weights_gb:.2f} GB of weights

`{command}`
{here.line()}.
Peak is the resident memory of the command and its processes together, with pages of mapped files.

{table}
"""


def parse_case(text: str) -> tuple[str, str, str]:
    """`onnxruntime:int8:stacked`."""
    case = tuple(text.split(":"))
    if case not in CASES:
        raise click.BadParameter(f"{text!r} is not TARGET:PRECISION:LAYOUT")
    return case


@click.command()
@click.option("--weights-mb", type=float, default=300.0, show_default=True, help="Size of the weights in float32.")
@click.option("--case", "cases", multiple=True, help="TARGET:PRECISION:LAYOUT; may be repeated.  [default: all]")
@click.option("--extra/--no-extra", default=True, help="Also validate, bisect and optimize.")
@click.option("--name", default=NAME, show_default=True, help="Name of the page and the CSV.")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for both."
)
def main(*, weights_mb: float, cases: Sequence[str], extra: bool, name: str, output: Path) -> None:
    """Measure builds of a large model, and write NAME.md and NAME.csv to the folder OUTPUT."""
    here, rows = machine.describe(), []
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output) as work:
        weights_bytes = prepare(choose_spec(weights_mb), Path(work))
        for row in measure(Path(work), weights_bytes, [*map(parse_case, cases)] or CASES, extra):
            rows.append(row)
            click.echo(f"{row}", err=True)
            pages.write_csv(output / f"{name}.csv", Row, rows)
            (output / f"{name}.md").write_text(page(rows, pages.command(), here), encoding="utf-8")


if __name__ == "__main__":
    main()
