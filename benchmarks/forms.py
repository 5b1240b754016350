"""The ways to write int8 for ONNX Runtime's CPU kernels, one more step a row: why the bundle has the form that it has.

    python -m benchmarks.forms -o benchmarks/results/

All rows are the folded graph of the released architecture with the same scales; the losers stay in the table.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from benchmarks import machine, results
from benchmarks.bursts import Timing
from benchmarks.contest import Contestant
from benchmarks.int8_recipes import NNCF, calibration_images, quantize_with_nncf
from benchmarks.peers import QUICK, contests, say
from benchmarks.rewrites import released
from benchmarks.subjects import OURS, PLAIN, RECIPES, Recipe
from paraexport.onnx_file import save
from paraexport.paraformer import ParaFormer
from paraexport.precision import for_onnxruntime, int8
from paraexport.precision.calibration import Calibration

TRACED = OURS[0]
STEPS = {"products": for_onnxruntime.products, "skips": for_onnxruntime.skips}
FORMS: dict[str, tuple[str, bool, tuple[str, ...]]] = {
    "form-signed": ("Q/DQ, activations int8", True, ()),
    "form-qdq": ("Q/DQ, activations uint8", False, ()),
    "form-products": ("+ MatMulIntegerToFloat with the bias", False, ("products",)),
    "form-attention": ("+ MultiHeadAttention", False, ("attention", "products")),
    "form-skips": ("+ Sum before norms", False, ("attention", "products", "skips")),
}
"""By graph: what it is called, whether activations are signed, and the steps of `for_onnxruntime`."""
DYNAMIC = "form-dynamic"


def write_form(signed: bool, steps: Sequence[str], model: ParaFormer, path: Path) -> str:
    folder = path.parent.parent
    images = calibration_images(model, folder)
    own = "attention" in steps
    prepared = int8.prepare(folder / TRACED / path.name, "folded", (), equalised=True, own_operators=own)
    with tempfile.TemporaryDirectory() as cache:
        calibration = Calibration(lambda: np.array_split(images, 8), "seeded", "minmax", Path(cache), "seeded images")
        scales = int8.scales_of(prepared, calibration, signed=signed)
    int8.write(prepared.model.graph, scales)
    for step in ("products", "skips"):
        if step in steps:
            STEPS[step](prepared.model.graph)
    save(prepared.model, path)
    return ""


def write_dynamic(_model: ParaFormer, path: Path) -> str:
    """ONNX Runtime's dynamic quantisation on our graph: a scale for each batch, found as it runs."""
    from onnxruntime.quantization import quantize_dynamic

    prepared = int8.prepare(path.parent.parent / TRACED / path.name, "folded", (), equalised=True)
    float32 = path.with_name("float32.onnx")
    save(prepared.model, float32)
    quantize_dynamic(float32, path, per_channel=True)
    return ""


RECIPES_OF_FORMS = {
    **RECIPES,
    NNCF: Recipe(quantize_with_nncf, PLAIN, own_products=False),
    DYNAMIC: Recipe(write_dynamic, "folded", own_products=False),
    **{
        graph: Recipe(functools.partial(write_form, signed, steps), "folded", own_products=False)
        for graph, (_, signed, steps) in FORMS.items()
    },
}
CONTESTANTS = (
    Contestant("NNCF, OpenVINO", "peer", "openvino-ir", NNCF),
    Contestant("float32, folded", "scale", "onnxruntime", "folded"),
    Contestant("dynamic", "ours", "onnxruntime", DYNAMIC),
    *(Contestant(name, "ours", "onnxruntime", graph) for graph, (name, _, _) in FORMS.items()),
)


@click.command(help="Time the ways to write int8 for ONNX Runtime.")
@click.option("--depth", default=2, show_default=True, help="Layers in a branch, M.")
@click.option("--branches", default=16, show_default=True, help="L.")
@click.option("--batch", "batches", multiple=True, default=(1, 8), show_default=True, help="Images in a call.")
@click.option("--quick", is_flag=True, help="Few short bursts: to see that it runs, not to measure.")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for the page.")
def main(*, depth: int, branches: int, batches: tuple[int, ...], quick: bool, output: Path | None) -> None:
    timing, started, here = QUICK if quick else Timing(), time.perf_counter(), machine.describe()
    say(here.line())
    rows = contests([released(branches, depth, "cls")], batches, timing, CONTESTANTS, recipes=RECIPES_OF_FORMS)
    print(results.table(rows))
    if output is not None:
        model = f"int8 for ONNX Runtime; released architecture, L = {branches}, M = {depth}, {timing.threads} threads"
        header = results.Header(results.command(), here, timing, model, time.perf_counter() - started)
        results.write(output, "forms", rows, header, picture=False)


if __name__ == "__main__":
    main()
