"""Good ONNX files to damage: a trace of ours, one of another exporter, and one of other operators than those."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from paraexport.model.spec import Spec
from tests.rewrite.foreign import IMAGE, Plain, export
from tests.rewrite.graphs import traced

TINY = Spec(
    image_size=(4, 4), channels=1, classes=3, patch_size=(2, 2), dim=4, branches=2, depth=1, heads=2, head_dim=2,
    mlp_dim=4,
)  # fmt: skip


def main() -> None:
    folder = Path(sys.argv[1])
    foreign = Plain("chunk", "stack", branches=2, depth=1).eval()
    models = {
        "trace": traced(TINY),
        "foreign": export(foreign, torch.zeros(2, 3, IMAGE, IMAGE), 17, scripted=True),
        "other": convolution(),
    }
    for name, model in models.items():
        onnx.save(model, folder / f"{name}.onnx")


def convolution() -> onnx.ModelProto:
    """A small graph with other operators than those of a Transformer."""
    random = np.random.default_rng(0)
    arrays = {
        "kernel": random.standard_normal((2, 1, 3, 3), np.float32),
        "weight": random.standard_normal((8, 6), np.float32),
        "target": np.array([0, 2, -1]),
        "starts": np.array([0]),
        "ends": np.array([1]),
        "axes": np.array([1]),
    }
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("MaxPool", ["positive"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Split", ["pooled"], ["first", "second"], axis=1, num_outputs=2),
        helper.make_node("Concat", ["first", "second"], ["both"], axis=1),
        helper.make_node("Reshape", ["both", "target"], ["rows"]),
        helper.make_node("Slice", ["rows", "starts", "ends", "axes"], ["row"]),
        helper.make_node("Flatten", ["rows"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["some"]),
        helper.make_node("ReduceSum", ["row"], ["total"], keepdims=0),
        helper.make_node("Add", ["some", "total"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 6])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


if __name__ == "__main__":
    main()
