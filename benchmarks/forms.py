"""Compare the ways to write a graph for the CPU kernels of ONNX Runtime and OpenVINO.

    python -m benchmarks.forms -o benchmarks/results/
    python -m benchmarks.forms --precision fp32 -o benchmarks/results/

This shows why a bundle has the form that it has. Each row of a runtime adds one step to the row before, with the same
scales. The model is the released architecture: its folded graph in ONNX Runtime, and in int8 its stacked graph in
OpenVINO. Forms that are slower stay in the table.
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
from benchmarks.harness.contest import RULES, THREADS, Contestant
from benchmarks.harness.subjects import OURS, PLAIN, RECIPES, Recipe, released
from benchmarks.int8.recipes import NNCF, calibration_images, quantize_with_nncf
from benchmarks.peers import print_progress, rules_for, run_contests
from paraexport.graph.onnx_file import save
from paraexport.model.reference import ParaFormer
from paraexport.precision.calibration.calibration import Calibration
from paraexport.precision.int8 import for_onnxruntime, for_target
from paraexport.precision.preparation import prepare
from paraexport.rewrite import LAYOUTS as FLOAT32_LAYOUTS
from paraexport.rewrite.atomic import Pass
from paraexport.rewrite.passes import skips
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
"""By graph: its name in the table, whether activations are signed, and the steps of `for_onnxruntime`."""
ROWS = {"form-stacked": ("Q/DQ", False), "form-rows": ("+ biases as rows", True)}
"""By graph, for OpenVINO: its name in the table, and whether it has the step of `for_openvino`."""
DYNAMIC = "form-dynamic"


def write_form(signed: bool, steps: Sequence[str], model: ParaFormer, path: Path) -> str:
    folder, own = path.parent.parent, "attention" in steps
    prepared = prepare(folder / TRACED / path.name, "folded", (), equalised=True, own_operators=own)
    with seeded_calibration(model, folder) as calibration:
        for_target.quantise_products(prepared.model.graph, for_target.find_scales(prepared, calibration, signed=signed))
    for step in ("products", "skips"):
        if step in steps:
            STEPS[step](prepared.model.graph)
    save(prepared.model, path)
    return ""


def write_rows(bias_rows: bool, model: ParaFormer, path: Path) -> str:
    folder = path.parent.parent
    prepared = prepare(folder / TRACED / path.name, "stacked", (), equalised=True)
    with seeded_calibration(model, folder) as calibration:
        save(for_target.quantise_for(prepared, Dialect(signed=False, bias_rows=bias_rows), calibration), path)
    return ""


@contextlib.contextmanager
def seeded_calibration(model: ParaFormer, folder: Path) -> Iterator[Calibration]:
    images = calibration_images(model, folder)
    with tempfile.TemporaryDirectory() as cache:
        yield Calibration(lambda: np.array_split(images, 8), "seeded", "minmax", Path(cache), "seeded images")


def write_dynamic(_model: ParaFormer, path: Path) -> str:
    """ONNX Runtime's dynamic quantisation of our graph, which computes a scale for each batch at run time."""
    from onnxruntime.quantization import quantize_dynamic

    prepared = prepare(path.parent.parent / TRACED / path.name, "folded", (), equalised=True)
    float32 = path.with_name("float32.onnx")
    save(prepared.model, float32)
    quantize_dynamic(float32, path, per_channel=True)
    return ""


def write_float32(passes: Sequence[Pass], _model: ParaFormer, path: Path) -> str:
    model = ir.load(path.parent.parent / TRACED / path.name)
    for apply in passes:
        apply(model.graph)
    save(model, path)
    return ""


@dataclasses.dataclass(frozen=True)
class Contest:
    name: str
    contestants: Sequence[Contestant]
    recipes: Mapping[str, Recipe]


FOLDED = FLOAT32_LAYOUTS["folded"]
FLOAT32: dict[str, tuple[str, Sequence[Pass]]] = {
    "float32-add": ("x + y before a norm as Add", [apply for apply in FOLDED if apply is not skips.apply]),
    "float32-sum": ("as Sum", FOLDED),
    "float32-attention": ("+ MultiHeadAttention", [*FOLDED, for_onnxruntime.attention]),
}
"""By graph: its name in the table, and its passes."""
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


@click.command(help="Compare the ways to write a graph for CPUs.")
@click.option(
    "--precision",
    type=click.Choice(tuple(CONTESTS)),
    default="int8",
    show_default=True,
    help="Precision of the graphs.",
)
@click.option("--depth", default=2, show_default=True, help="M, layers in a branch.")
@click.option("--branches", default=16, show_default=True, help="L.")
@click.option("--batch", "batches", multiple=True, default=(1, 8), show_default=True, help="Images in a call.")
@click.option("--quick", is_flag=True, help="A few short bursts, to see that the script runs.")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for CSV, JSON and page.")
def main(
    *, precision: str, depth: int, branches: int, batches: tuple[int, ...], quick: bool, output: Path | None
) -> None:
    rules, contest = rules_for(RULES, None, quick=quick), CONTESTS[precision]
    started_s, here = time.perf_counter(), machine.describe()
    print_progress(here.line())
    spec = released(branches, depth, "cls")
    rows = run_contests([spec], batches, rules, contest.contestants, recipes=contest.recipes)
    print(pages.table(rows))
    if output is not None:
        model = f"{precision}; released architecture, L = {branches}, M = {depth}, {THREADS} threads"
        took_s = time.perf_counter() - started_s
        header = pages.Header(pages.command(), here, rules, THREADS, model, took_s)
        pages.write(output, contest.name, rows, header, picture=False)


if __name__ == "__main__":
    main()
