"""Graphs for the tests of TensorRT, made as a build makes them, and compiled here."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from paraexport import targets
from paraexport.clock import silent
from paraexport.paraformer import ParaFormer
from paraexport.precision import halves, lowering
from paraexport.precision.calibration import Calibration, Observed
from paraexport.precision.data import Data, Judge
from paraexport.rewrite import rewrite
from paraexport.spec import EngineInfo, EngineOptions, Spec
from paraexport.targets import tensorrt_rtx
from paraexport.trace import trace
from tests.rewrite.graphs import model_of

MAX_BATCH = 16
USUAL = EngineOptions()
SMALL = Spec(
    image_size=(8, 8), channels=1, classes=5, patch_size=(4, 4), dim=32, branches=3, depth=2, heads=2, head_dim=16,
    mlp_dim=64, residual="normalized", qkv_bias=False,
)  # fmt: skip


def require_rtx() -> None:
    here = targets.get("tensorrt-rtx").availability()
    if here.version is None:
        pytest.skip(f"{here.missing}; {here.remedy}")


def require_ahead_of_time() -> None:
    require_rtx()
    if not tensorrt_rtx.availability().idle:
        pytest.skip("there is a GPU here: engines are run, and nothing is left out")


@functools.lru_cache
def traced(spec: Spec) -> tuple[bytes, ParaFormer]:
    """The traced graph of a model of random weights."""
    model = model_of(spec)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        trace(model, spec, path)
        return path.read_bytes(), model


def write_graph(spec: Spec, layout: str, precision: str, folder: Path) -> dict[str, int]:
    """Write the graph for TensorRT into `folder`; returns the products that are to be lowered."""
    content, model = traced(spec)
    source = folder.with_name(f"{folder.name}-traced") / "model.onnx"
    source.parent.mkdir()
    source.write_bytes(content)
    if precision == "fp32":
        rewrite(source, layout, folder)
        return {}
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, spec.channels, *spec.image_size, generator=generator)
    with torch.no_grad():
        logits = model(images).numpy()
    seen = Observed(lambda: iter([images.numpy()]), "random", "random images")
    data, dialect = Data([images.numpy()], Judge(logits, None)), tensorrt_rtx.DIALECT
    if precision == "int8":
        wanted = lowering.Wanted(keep=(), max_drop=None, equalised=True)
        with tempfile.TemporaryDirectory() as kept:
            decided = lowering.decide(source, [Calibration(seen, "minmax", Path(kept))], data, wanted)
            return lowering.write(source, layout, dialect, folder, decided)[1].products
    kind: Any = precision
    return halves.write(source, layout, kind, dialect, folder, observed=seen, data=data)[1].products


def compile_here(folder: Path, options: EngineOptions = USUAL, max_batch: int = MAX_BATCH) -> EngineInfo:
    require_rtx()
    return tensorrt_rtx.compile_model(folder, max_batch, options, silent)


def save(folder: Path, text: str, **constants: NDArray[Any]) -> Path:
    """Write a graph in ONNX's own text, of opset 20, each node named `branches.0/` and its first output."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {text}')
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
    )
    for node in model.graph.node:
        node.name = f"branches.0/{node.output[0]}"
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    return folder
