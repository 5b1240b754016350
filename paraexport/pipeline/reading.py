"""Reads the checkpoint, traces it, and lets its modules go."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from paraexport.errors import MissingError
from paraexport.pipeline.options import Reading
from paraexport.system.extras import install
from paraexport.system.memory import give_back
from paraexport.targets.folder import MODEL

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint
    from paraexport.trace.trace import TracedGraph

LIBRARIES = ("torch", "onnx", "onnx_ir", "onnxscript")


def require_libraries() -> None:
    """Raise a `MissingError` that names every library which a build needs and which is not installed."""
    if missing := [name for name in LIBRARIES if importlib.util.find_spec(name) is None]:
        raise MissingError(f"a build needs {', '.join(missing)}, not installed here", remedy=install("build"))


def load(source: Path, reading: Reading) -> Checkpoint:
    """The checkpoint at `source`, read as the options say."""
    from paraexport.checkpoint.load import load_checkpoint

    give_back(source.stat().st_size)
    return load_checkpoint(
        source,
        overrides=reading.spec,
        module=reading.module,
        branches=reading.branches,
        weights=reading.weights,
    )


def traced(loaded: Checkpoint, folder: Path) -> TracedGraph:
    """The module as ONNX, in the new `folder`, its weights in a file of their own, which is mapped."""
    from paraexport.trace.trace import trace

    folder.mkdir()
    return trace(loaded.module, loaded.classifier, folder / MODEL, apart=True)


def without_modules(loaded: Checkpoint, reading: Reading) -> Checkpoint:
    """Without its modules, once PyTorch has answered; a module of `--module` stays, since others may have it too."""
    return loaded if reading.module is not None else loaded.without_modules()


def with_modules(loaded: Checkpoint, source: Path, reading: Reading) -> Checkpoint:
    """The checkpoint with its modules, which `without_modules` may have taken."""
    return loaded if reading.module is not None else load(source, reading)


def opset(path: Path) -> int:
    """The opset of ONNX that the model at `path` uses."""
    from paraexport.graph.onnx_file import read_opset

    return read_opset(path)
