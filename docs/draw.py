"""The pictures of docs/rewrites.md: the graph of two branches of one layer, in each layout.

    python docs/draw.py

Needs Graphviz's `dot` on the path. Nodes have the shape of their result and, for products, that of the constant.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir
import torch

from paraexport.graph.cost import SHARED, STACKED, branch_label
from paraexport.graph.query import const, is_op, operands
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Spec
from paraexport.rewrite import LAYOUTS, rewrite
from paraexport.trace.trace import trace

FOLDER = Path(__file__).parent / "pictures"
SPEC = Spec(
    image_size=(32, 32), channels=3, classes=10, patch_size=(8, 8), dim=192, branches=2, depth=1, heads=3, head_dim=64,
    mlp_dim=768, residual="normalized", qkv_bias=False,
)  # fmt: skip
COLOURS = {"branch 0": "#cfe3f5", "branch 1": "#fbe3c8", STACKED: "#d9efd3", SHARED: "#eeeeee"}
VIEWS = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather", "Expand", "Shape")
"""Operators that move numbers and compute none."""


def model() -> ParaFormer:
    torch.manual_seed(0)
    made = ParaFormer(SPEC)
    with torch.no_grad():
        for parameter in made.parameters():  # fresh norms all scale by one, and would be merged
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def shape_text(value: ir.Value) -> str:
    return "×".join("B" if not isinstance(size, int) else str(size) for size in value.shape or ())


def label(node: ir.Node) -> str:
    constants = [value for value in operands(node) if const(value) is not None]
    name = node.op_type
    if is_op(node, "MatMul", "Gemm") and constants:
        name = f"{name} · {shape_text(constants[0])}"
    elif is_op(node, "Add", "Mul") and constants:
        name = f"{name} constant"
    return f"{name}\\n{shape_text(node.outputs[0])}"


def dot(graph: ir.Graph) -> Iterator[str]:
    """The graph in Graphviz's language, from the images down to the logits."""
    yield "digraph {"
    yield 'graph [ranksep=0.22 nodesep=0.15]; edge [arrowsize=0.5 color="#888888"];'
    yield 'node [shape=box style="rounded,filled" fontname="Helvetica" fontsize=9 height=0.3 margin="0.08,0.03"];'
    yield f'"images" [label="images\\n{shape_text(graph.inputs[0])}" fillcolor="white"];'
    for node in graph:
        small = ' fontcolor="#777777" color="#bbbbbb"' if is_op(node, *VIEWS) else ""
        yield f'"{node.name}" [label="{label(node)}" fillcolor="{COLOURS[branch_label(node.name)]}"{small}];'
        for value in operands(node):
            producer = value.producer()
            if producer is not None:
                yield f'"{producer.name}" -> "{node.name}";'
            elif value in graph.inputs:
                yield f'"images" -> "{node.name}";'
    yield "}"


def main() -> None:
    program = shutil.which("dot")
    if program is None:
        sys.exit("dot is not on the path: install Graphviz")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        traced = Path(name) / "traced" / "model.onnx"
        traced.parent.mkdir()
        trace(model(), SPEC, traced)
        for layout in LAYOUTS:
            rewrite(traced, layout, Path(name) / layout)
            graph = ir.load(Path(name) / layout / traced.name).graph
            picture = FOLDER / f"{layout}.svg"
            subprocess.run([program, "-Tsvg", "-o", picture], input="\n".join(dot(graph)), text=True, check=True)  # noqa: S603
            print(f"{picture.relative_to(FOLDER.parent.parent)}: {len(graph)} nodes")


if __name__ == "__main__":
    main()
