"""Traced models for the tests of rewrites. Each is traced once."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Spec
from paraexport.trace.trace import trace
from tests.checkpoint.writers import random_weights, state_dict
from tests.rewrite.exact import in_float64

SMALL = Spec(
    image_size=(6, 8), channels=1, classes=5, patch_size=(3, 2), dim=12, branches=3, depth=2, heads=3, head_dim=4,
    mlp_dim=20, residual="normalized", qkv_bias=True,
)  # fmt: skip


def model_of(spec: Spec, seed: int = 0) -> ParaFormer:
    model = ParaFormer(spec).eval()
    model.load_state_dict(state_dict(random_weights(spec, seed)))
    return model


@functools.lru_cache
def traced(spec: Spec, seed: int = 0) -> onnx.ModelProto:
    """The graph of a model of `spec` with random weights, in float32."""
    with tempfile.TemporaryDirectory() as folder:
        trace(model_of(spec, seed), spec, Path(folder) / "model.onnx")
        return onnx.load(Path(folder) / "model.onnx")


def graph64(spec: Spec = SMALL, **fields: Any) -> ir.Model:
    """A new copy of the traced graph, in float64."""
    return ir.from_proto(in_float64(traced(Spec(**{**vars(spec), **fields}))))


def images(spec: Spec = SMALL, batch: int = 3, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((batch, spec.channels, *spec.image_size))


def count(model: ir.Model, op_type: str) -> int:
    return sum(node.op_type == op_type for node in model.graph)
