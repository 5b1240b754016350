"""The ways to write a graph for the CPU kernels of ONNX Runtime and OpenVINO: why the bundle has the form that it has.

    python -m benchmarks.forms -o benchmarks/results/
    python -m benchmarks.forms --precision fp32 -o benchmarks/results/

Each row of a runtime is one more step on the one before. All are of the released architecture: the folded graph in ONNX
Runtime, in int8 the stacked one in OpenVINO, with the same scales. The losers stay in the table.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
import numpy as np
import onnx_ir as ir

from benchmarks.harness import machine, pages
from benchmarks.harness.bursts import Timing
from benchmarks.harness.contest import Contestant
from benchmarks.harness.subjects import OURS, PLAIN, RECIPES, Recipe
from benchmarks.int8.recipes import NNCF, calibration_images, quantize_with_nncf
from benchmarks.peers import QUICK, contests, say
from benchmarks.rewrites import released
from paraexport.graph.onnx_file import save
from paraexport.model.reference import ParaFormer
from paraexport.precision.calibration.calibration import Calibration
from paraexport.precision.int8 import for_onnxruntime, int8
from paraexport.precision.preparation import prepare
from paraexport.rewrite import LAYOUTS as FLOAT32_LAYOUTS
from paraexport.rewrite.passes import skips
from paraexport.rewrite.whole import Pass
from paraexport.targets import Dialect

TRACED = OURS[0]
STEPS = {"products": for_onnxruntime.products, "skips": skips.apply}
FORMS: dict[str, tuple[str, bool, tuple[str, ...]]] = {
    "form-signed": ("Q/DQ, activations int8", True, ()),
    "form-qdq": ("Q/DQ, activations uint8", False, ()),
    "form-products": ("+ MatMulIntegerToFloat with the bias", False, ("products",)),
    "form-attention": ("+ MultiHeadAttention", False, ("attention", "products")),
    "form-skips": ("+ Sum before norms", False, ("attention", "products", "skips")),
}
"""By graph: what it is called, whether activations are signed, and the steps of `for_onnxruntime`."""
ROWS = {"form-stacked": ("Q/DQ", False), "form-rows": ("+ biases as rows", True)}
"""By graph, for OpenVINO: what it is called, and whether it has the step of `for_openvino`."""
DYNAMIC = "form-dynamic"


def write_form(signed: bool, steps: Sequence[str], model: ParaFormer, path: Path) -> str:
    folder, own = path.parent.parent, "attention" in steps
    prepared = prepare(folder / TRACED / path.name, "folded", (), equalised=True, own_operators=own)
    with seeded_calibration(model, folder) as calibration:
        int8.write(prepared.model.graph, int8.scales_of(prepared, calibration, signed=signed))
    for step in ("products", "skips"):
        if step in steps:
            STEPS[step](prepared.model.graph)
    save(prepared.model, path)
    return ""


def write_rows(bias_rows: bool, model: ParaFormer, path: Path) -> str:
    folder = path.parent.parent
    prepared = prepare(folder / TRACED / path.name, "stacked", (), equalised=True)
    with seeded_calibration(model, folder) as calibration:
        save(int8.lower_graph(prepared, Dialect(signed=False, bias_rows=bias_rows), calibration), path)
    return ""


@contextlib.contextmanager
def seeded_calibration(model: ParaFormer, folder: Path) -> Iterator[Calibration]:
    images = calibration_images(model, folder)
    with tempfile.TemporaryDirectory() as cache:
        yield Calibration(lambda: np.array_split(images, 8), "seeded", "minmax", Path(cache), "seeded images")


def write_dynamic(_model: ParaFormer, path: Path) -> str:
    """ONNX Runtime's dynamic quantisation on our graph: a scale for each batch, found as it runs."""
    from onnxruntime.quantization import quantize_dynamic

    prepared = prepare(path.parent.parent / TRACED / path.name, "folded", (), equalised=True)
    float32 = path.with_name("float32.onnx")
    save(prepared.model, float32)
    quantize_dynamic(float32, path, per_channel=True)
    return ""


def write_float32(passes: Sequence[Pass], _model: ParaFormer, path: Path) -> str:
    made = ir.load(path.parent.parent / TRACED / path.name)
    for apply in passes:
        apply(made.graph)
    save(made, path)
    return ""


@dataclasses.dataclass(frozen=True)
class Contest:
    name: str
    contestants: Sequence[Contestant]
    recipes: Mapping[str, Recipe]


FOLDED = FLOAT32_LAYOUTS["folded"]
FLOAT32: dict[str, tuple[str, Sequence[Pass]]] = {
    "float32-add": ("x + y before a norm as Add", [one for one in FOLDED if one is not skips.apply]),
    "float32-sum": ("as Sum", FOLDED),
    "float32-attention": ("+ MultiHeadAttention", [*FOLDED, for_onnxruntime.attention]),
}
"""By graph: what it is called, and the passes that make it."""
CONTESTS = {
    "fp32": Contest(
        "forms-fp32",
        (
            Contestant("plain export", "peer", "onnxruntime", PLAIN),
            *(Contestant(name, "ours", "onnxruntime", graph) for graph, (name, _) in FLOAT32.items()),
        ),
        {
            **RECIPES,
            **{
                graph: Recipe(functools.partial(write_float32, passes), "folded", own_products=False)
                for graph, (_, passes) in FLOAT32.items()
            },
        },
    ),
    "int8": Contest(
        "forms",
        (
            Contestant("NNCF, OpenVINO", "peer", "openvino-ir", NNCF),
            Contestant("ONNX Runtime: float32", "scale", "onnxruntime", "folded"),
            Contestant("ONNX Runtime: dynamic", "ours", "onnxruntime", DYNAMIC),
            *(
                Contestant(f"ONNX Runtime: {name}", "ours", "onnxruntime", graph)
                for graph, (name, _, _) in FORMS.items()
            ),
            *(Contestant(f"OpenVINO: {name}", "ours", "openvino", graph) for graph, (name, _) in ROWS.items()),
        ),
        {
            **RECIPES,
            NNCF: Recipe(quantize_with_nncf, PLAIN, own_products=False),
            DYNAMIC: Recipe(write_dynamic, "folded", own_products=False),
            **{
                graph: Recipe(functools.partial(write_form, signed, steps), "folded", own_products=False)
                for graph, (_, signed, steps) in FORMS.items()
            },
            **{
                graph: Recipe(functools.partial(write_rows, bias_rows), "stacked", own_products=False)
                for graph, (_, bias_rows) in ROWS.items()
            },
        },
    ),
}


@click.command(help="Time the ways to write a graph for CPUs.")
@click.option("--precision", type=click.Choice(tuple(CONTESTS)), default="int8", show_default=True)
@click.option("--depth", default=2, show_default=True, help="Layers in a branch, M.")
@click.option("--branches", default=16, show_default=True, help="L.")
@click.option("--batch", "batches", multiple=True, default=(1, 8), show_default=True, help="Images in a call.")
@click.option("--quick", is_flag=True, help="Few short bursts: to see that it runs, not to measure.")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for the page.")
def main(
    *, precision: str, depth: int, branches: int, batches: tuple[int, ...], quick: bool, output: Path | None
) -> None:
    timing, started, here = QUICK if quick else Timing(), time.perf_counter(), machine.describe()
    contest = CONTESTS[precision]
    say(here.line())
    rows = contests([released(branches, depth, "cls")], batches, timing, contest.contestants, recipes=contest.recipes)
    print(pages.table(rows))
    if output is not None:
        model = f"{precision}; released architecture, L = {branches}, M = {depth}, {timing.threads} threads"
        header = pages.Header(pages.command(), here, timing, model, time.perf_counter() - started)
        pages.write(output, contest.name, rows, header, picture=False)


if __name__ == "__main__":
    main()
