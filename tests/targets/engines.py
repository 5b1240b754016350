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
from numpy.typing import NDArray
from onnx import numpy_helper

from paraexport import targets
from paraexport.checks.golden import answers
from paraexport.images.made_up import made_up_samples
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Preprocessing, Spec
from paraexport.pipeline import candidates
from paraexport.pipeline.options import Options
from paraexport.targets.compilation import EngineInfo, EngineOptions
from paraexport.targets.trt.flavour import RTX
from paraexport.targets.trt.target import TensorRT
from paraexport.timing.clock import silent
from paraexport.trace.trace import trace
from tests.rewrite.graphs import model_of

tensorrt_rtx = TensorRT(RTX)
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
    work = folder.with_name(f"{folder.name}-work")
    source = work / "traced/model.onnx"
    source.parent.mkdir(parents=True)
    source.write_bytes(content)
    images = Preprocessing(image_size=spec.image_size, channels=spec.channels, resize=spec.image_size)
    samples = made_up_samples(images, 16)
    logits = answers(model)(next(samples.batches(16)))
    options = Options(target=tensorrt_rtx.name, precision=precision, layout=layout)
    (draft,) = candidates.write(source, options, options.targets, work, candidates.Images(samples, samples, logits))
    draft.folder.rename(folder)
    return draft.lowering.products if draft.lowering else {}


def compile_here(folder: Path, options: EngineOptions = USUAL, max_batch: int = MAX_BATCH) -> EngineInfo:
    require_rtx()
    return tensorrt_rtx.compile_model(folder, max_batch, options, silent)


def save(folder: Path, text: str, opset: int = 20, **constants: NDArray[Any]) -> Path:
    """Write a graph in ONNX's own text, each node named `branches.0/` and its first output."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {text}')
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
    )
    for node in model.graph.node:
        node.name = f"branches.0/{node.output[0]}"
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    return folder
