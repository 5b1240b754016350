"""Small traced models with random weights, as a build passes them to int8, and their outputs in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.model.spec import Spec
from paraexport.precision.calibration.calibration import Calibration
from paraexport.targets.ort.probe import open_probe
from tests.rewrite.graphs import SMALL, images, traced

Reals = NDArray[np.float32]
KINDS: dict[str, dict[str, Any]] = {
    "normalized, cls": {},
    "input, mean": {"residual": "input", "pool": "mean", "branches": 2},
    "post, one layer": {"residual": "post", "depth": 1, "branches": 4, "heads": 2, "layer_scale": True},
    "input, one layer, cls": {"residual": "input", "depth": 1, "heads": 1, "qkv_bias": False},
}  # fmt: skip
LAYOUTS = ("folded", "stacked", "branches")
CALIBRATION_IMAGES = images(SMALL, 24, seed=1).astype(np.float32)
TEST_IMAGES = images(SMALL, 40, seed=2).astype(np.float32)


def spec_of(**fields: Any) -> Spec:
    return Spec(**{**vars(SMALL), **fields})


def traced_file(folder: Path, **fields: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(traced(spec_of(**fields)), folder / "model.onnx")
    return folder / "model.onnx"


def calibration(folder: Path, calibrator: str = "minmax", images: Reals = CALIBRATION_IMAGES) -> Calibration:
    return Calibration(batches(images), f"{images.shape} {images.sum()}", calibrator, folder / "kept", "noise")


def batches(images: Reals, size: int = 8) -> Callable[[], Iterable[Reals]]:
    return lambda: (images[start : start + size] for start in range(0, len(images), size))


def on_runtime(model: onnx.ModelProto | ir.Model, images: Reals = TEST_IMAGES, *outputs: str) -> list[Reals]:
    """The outputs of a graph, or the values of these names."""
    graph = model if isinstance(model, ir.Model) else ir.from_proto(model)
    return [*open_probe(graph, outputs or [output.name or "" for output in graph.graph.outputs])(images)]


def relative(got: NDArray[Any], expected: NDArray[Any]) -> float:
    """max |Δ| / max |expected|."""
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / np.abs(expected).max())
