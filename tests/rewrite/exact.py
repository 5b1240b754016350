"""Runs graphs in float64, to distinguish an exact identity from one that is only nearly right."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

Model = onnx.ModelProto | ir.Model
EXACT = 1e-12
"""The limit of max |Δ| / max |value| between two float64 graphs that are equal over the real numbers."""


class LayerNormalization(OpRun):
    """LayerNormalization in the precision of its input. onnx's reference rounds to float32."""

    def _run(self, x: Any, scale: Any, bias: Any = None, axis: int = -1, epsilon: float = 1e-5, **_: Any) -> Any:
        axes = tuple(range(axis % x.ndim, x.ndim))
        centred = x - x.mean(axes, keepdims=True)
        normal = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + epsilon) * scale
        return (normal if bias is None else normal + bias,)


def in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with every float32 tensor in float64."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in wide.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for value in (*wide.graph.input, *wide.graph.output, *wide.graph.value_info):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    return wide


def run(model: Model, images: NDArray[Any]) -> NDArray[Any]:
    """The first output, in the precision of the graph."""
    proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
    evaluator = ReferenceEvaluator(proto, new_ops=[LayerNormalization])
    name = evaluator.input_names[0]
    outputs: Any = evaluator.run(None, {str(name): images})
    return np.asarray(outputs[0])


def difference(one: onnx.ModelProto | ir.Model, other: onnx.ModelProto | ir.Model, images: NDArray[Any]) -> float:
    """max |Δ| / max |value| of two graphs."""
    expected, got = run(one, images), run(other, images)
    assert expected.shape == got.shape
    return float(np.abs(got - expected).max() / (np.abs(expected).max() or 1.0))
