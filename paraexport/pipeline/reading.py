"""Reads the checkpoint, traces it, and releases its modules."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from paraexport.errors import MissingError
from paraexport.findings.costs import CostReport
from paraexport.pipeline.options import Reading
from paraexport.system.extras import install
from paraexport.system.memory import give_back
from paraexport.targets.folder import MODEL

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint
    from paraexport.trace.trace import TracedGraph

LIBRARIES = ("torch", "onnx", "onnx_ir", "onnxscript", "jinja2", "matplotlib")


def require_libraries() -> None:
    """Raise a `MissingError` with all libraries that a build needs and that are not installed."""
    if missing := [name for name in LIBRARIES if importlib.util.find_spec(name) is None]:
        raise MissingError(f"a build needs {', '.join(missing)}, which is not installed here", remedy=install("build"))


def load(source: Path, reading: Reading) -> Checkpoint:
    """Load the checkpoint at `source` with the options in `reading`."""
    from paraexport.checkpoint.load import load_checkpoint

    give_back(source.stat().st_size)
    return load_checkpoint(
        source,
        overrides=reading.spec,
        module=reading.module,
        branches=reading.branches,
        weights=reading.weights,
        rename=reading.rename,
    )


def traced(loaded: Checkpoint, folder: Path) -> TracedGraph:
    """Trace the module to ONNX in the new `folder`. Its weights are in a separate file, which is mapped into memory."""
    from paraexport.trace.trace import trace

    folder.mkdir()
    return trace(loaded.module, loaded.classifier, folder / MODEL, apart=True)


def without_modules(loaded: Checkpoint, reading: Reading) -> Checkpoint:
    """Release the modules to save memory. A module of `--module` stays, because its code may hold it too."""
    return loaded if reading.module is not None else loaded.without_modules()


def with_modules(loaded: Checkpoint, source: Path, reading: Reading) -> Checkpoint:
    """Load the modules again if `without_modules` released them."""
    return loaded if reading.module is not None else load(source, reading)


def opset(path: Path) -> int:
    """Return the ONNX opset of the model at `path`."""
    from paraexport.graph.onnx_file import read_opset

    return read_opset(path)


def costs(graph: TracedGraph, final: Path) -> CostReport:
    """Compare the costs of the traced graph and of the graph at `final`."""
    from paraexport.graph.cost_report import cost_report

    return cost_report(graph.path, final)
