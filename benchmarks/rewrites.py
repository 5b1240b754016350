"""Count the nodes and multiply-adds that each layout leaves, for sizes of the released architecture.

    python -m benchmarks.rewrites

The values of the weights do not change either count, so they are random. Images of 128 x 128 give 65 tokens.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import onnx_ir as ir

from benchmarks.harness.subjects import released
from paraexport.graph.cost import multiply_adds
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Pool
from paraexport.rewrite import LAYOUTS, rewrite
from paraexport.trace.trace import trace

SIZES: tuple[tuple[int, int, Pool], ...] = (
    (16, 2, "cls"),
    (16, 1, "cls"),
    (2, 2, "cls"),
    (2, 2, "mean"),
    (2, 1, "mean"),
)
"""L, M and the pool."""


@click.command(help="Count the nodes and multiply-adds that each layout leaves.")
def main() -> None:
    print(f"{'L':>3} {'M':>3} {'pool':11} {'layout':10} {'nodes':>6} {'GMACs':>8} {'of branches':>12}")
    for branches, depth, pool in SIZES:
        model = ParaFormer(released(branches, depth, pool)).eval()
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "plain" / "model.onnx"
            plain.parent.mkdir()
            trace(model, model.spec, plain)
            before = multiply_adds(ir.load(plain).graph)
            for layout in LAYOUTS:
                rewrite(plain, layout, Path(folder) / layout)
                graph = ir.load(Path(folder) / layout / plain.name).graph
                cost = multiply_adds(graph)
                counts = f"{len(graph):6} {cost / 1e9:8.3f} {cost / before:12.3f}"
                print(f"{branches:3} {depth:3} {pool:11} {layout:10} {counts}", flush=True)


if __name__ == "__main__":
    main()
