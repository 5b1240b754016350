"""What each layout leaves of the traced graph: nodes and multiply-adds, for the sizes of the released architecture.

    python -m benchmarks.rewrites

The class of weights does not matter to either count, so they are random. 65 tokens come from images of 128 x 128.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx_ir as ir

from paraexport.graph.cost import multiply_adds
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Pool, Spec
from paraexport.rewrite import LAYOUTS, rewrite
from paraexport.trace.trace import trace


def released(branches: int, depth: int, pool: Pool) -> Spec:
    return Spec(
        image_size=(128, 128), channels=3, classes=10, patch_size=(16, 16), dim=192, branches=branches, depth=depth,
        heads=3, head_dim=64, mlp_dim=768, residual="normalized", pool=pool, qkv_bias=False,
    )  # fmt: skip


def main() -> None:
    print(f"{'L':>3} {'M':>3} {'pool':11} {'layout':10} {'nodes':>6} {'GMACs':>8} {'of branches':>12}")
    cases: list[tuple[int, int, Pool]] = [(16, 2, "cls"), (16, 1, "cls"), (2, 2, "cls"), (2, 2, "mean"), (2, 1, "mean")]
    for branches, depth, pool in cases:
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
                shown = f"{len(graph):6} {cost / 1e9:8.3f} {cost / before:12.3f}"
                print(f"{branches:3} {depth:3} {pool:11} {layout:10} {shown}", flush=True)


if __name__ == "__main__":
    main()
