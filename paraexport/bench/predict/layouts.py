"""Writes the graph of each layout for a spec, with random weights, and reads its kernels.

Latency does not depend on the values of weights, so no checkpoint is needed. A graph with two branches is enough,
because branches are alike (`graph.kernels.with_branches`). So a model with many large branches needs little memory.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from paraexport.errors import MissingError
from paraexport.model.spec import Spec
from paraexport.system.extras import install

if TYPE_CHECKING:
    import onnx_ir as ir

    from paraexport.graph.kernels import Kernel

LAYOUTS = ("branches", "folded", "stacked")
LIBRARIES = ("torch", "onnx", "onnx_ir", "onnxscript")
FEW = 2
"""Branches in the graphs."""


@dataclasses.dataclass(frozen=True)
class LayoutGraphs:
    """The graphs of a spec with a few branches."""

    spec: Spec
    """With all its branches."""
    branches: int
    """Those in the graphs."""
    graphs: Mapping[str, ir.Graph]
    """By layout."""

    def kernels(self, layout: str, batch: int, branches: int | None = None) -> list[Kernel]:
        """The kernels of one run on `batch` images, with all branches or another number of them."""
        from paraexport.graph.kernels import kernels, with_branches

        few, wanted = kernels(self.graphs[layout], batch), branches or self.spec.branches
        return few if wanted == self.branches else with_branches(few, self.branches, wanted)


def write_layouts(spec: Spec, layouts: tuple[str, ...] = LAYOUTS, most_branches: int = FEW) -> LayoutGraphs:
    """Trace a model of `spec` with random weights, and rewrite it into the layouts.

    Args:
        most_branches: in the graphs.

    Raises:
        MissingError: a library that traces or rewrites is not installed.
    """
    require(LIBRARIES)
    import torch

    from paraexport.graph.onnx_file import load
    from paraexport.model.reference import ParaFormer
    from paraexport.rewrite import rewrite
    from paraexport.trace.trace import trace

    few = dataclasses.replace(spec, branches=min(spec.branches, most_branches))
    with tempfile.TemporaryDirectory() as temporary, torch.random.fork_rng():
        torch.manual_seed(0)
        path, model = Path(temporary) / "model.onnx", ParaFormer(few).eval().requires_grad_(requires_grad=False)
        for parameter in model.parameters():
            if parameter.ndim == 1:  # new norms and biases are all 1 or 0, which a rewrite would leave out
                parameter.add_(torch.randn(parameter.shape))
        trace(model, few, path)
        graphs = {}
        for layout in layouts:
            folder = Path(temporary) / layout
            rewrite(path, layout, folder)
            graphs[layout] = load(folder / path.name).graph
    return LayoutGraphs(spec, few.branches, graphs)


def require(libraries: tuple[str, ...]) -> None:
    """Raise a `MissingError` with all libraries that are not installed."""
    if missing := [name for name in libraries if importlib.util.find_spec(name) is None]:
        raise MissingError(f"--predict needs {', '.join(missing)} to read graphs", remedy=install("build"))
