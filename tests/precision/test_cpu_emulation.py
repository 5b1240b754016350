"""bf16 on runtimes without kernels for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from paraexport.precision.half import cpu_emulation
from paraexport.precision.half.cpu_emulation import HAVE_KERNELS
from paraexport.precision.half.formats import HalfType
from paraexport.rewrite import LAYOUTS
from tests.precision.graphs import (
    KINDS,
    Images,
    float32_graph,
    for_cpu,
    in_half,
    pytorch,
    random_images,
    session,
)
from tests.precision.test_half_conversion import (
    LOGIT_ERROR,
    check_types,
    module_of,
    ranges,
    relative,
    trained,
    trained_ranges,
)


def weights_only(proto: onnx.ModelProto) -> onnx.ModelProto:
    model = ir.from_proto(proto)
    cpu_emulation.keep_only_weights(model.graph)
    converted = ir.to_proto(model)
    onnx.checker.check_model(converted, full_check=True)
    return converted


def test_a_product_is_rounded_once() -> None:
    """Against NumPy in float64, with the rounding of ml_dtypes."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((5, 64)).astype(ml_dtypes.bfloat16)
    w = generator.standard_normal((64, 7)).astype(ml_dtypes.bfloat16)
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.BFLOAT16, name="x"),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="y"),
        helper.make_node("Cast", ["y"], ["out"], to=TensorProto.FLOAT, name="out"),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [5, 64])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [5, 7])
    graph = helper.make_graph(nodes, "g", [images], [out], [numpy_helper.from_array(w, "w")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    converted = for_cpu(onnx.shape_inference.infer_shapes(proto))
    (got,) = session(converted).run(None, {"images": x.astype(np.float32)})
    expected = (x.astype(np.float64) @ w.astype(np.float64)).astype(ml_dtypes.bfloat16).astype(np.float32)
    assert np.abs(np.asarray(got) - expected).max() == 0


@pytest.mark.parametrize("op_type", HAVE_KERNELS)
def test_onnxruntime_runs_it_in_bf16(op_type: str) -> None:
    inputs: dict[str, list[str]] = {
        "Concat": ["x", "x"], "Gather": ["x", "zero"], "Reshape": ["x", "shape"], "Slice": ["x", "zero", "one"],
        "Squeeze": ["x", "zero"], "Unsqueeze": ["x", "zero"],
    }  # fmt: skip
    attributes: dict[str, dict[str, Any]] = {
        "Cast": {"to": TensorProto.BFLOAT16}, "Concat": {"axis": 0}, "Split": {"num_outputs": 1},
    }  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.BFLOAT16),
        helper.make_node(op_type, inputs.get(op_type, ["x"]), ["y"], **attributes.get(op_type, {})),
        helper.make_node("Cast", ["y"], ["out"], to=TensorProto.FLOAT),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 4])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    numbers = {"zero": [0], "one": [1], "shape": [2, 2]}
    constants = [numpy_helper.from_array(np.array(array), name) for name, array in numbers.items()]
    graph = helper.make_graph(nodes, "g", [images], [out], constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (got,) = session(proto).run(None, {"images": np.arange(4, dtype=np.float32)[None]})
    assert np.isin(np.arange(4), np.asarray(got)).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_only_keeps_the_size_and_answers_right(layout: str) -> None:
    module, images, expected = trained("digits")
    converted, _ = in_half(float32_graph(module, layout), "bf16", trained_ranges("digits", layout))
    after = weights_only(converted)
    check_types(after, "bf16")
    assert len(after.SerializeToString()) <= 1.01 * len(converted.SerializeToString())
    (got,) = session(after).run(None, {"images": images})
    assert np.abs(np.asarray(got) - expected).max() <= LOGIT_ERROR["bf16"] / 2


def test_fp16_is_left_alone() -> None:
    module = module_of(0)
    converted, _ = in_half(float32_graph(module, "stacked"), "fp16", ranges(module, "stacked"))
    graph = ir.from_proto(converted).graph
    assert cpu_emulation.emulate_rounding(graph).times == cpu_emulation.keep_only_weights(graph).times == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_onnxruntime_with_its_optimisations(layout: str) -> None:
    module = module_of(1)
    images = random_images(module.spec)
    converted, _ = in_half(float32_graph(module, layout), "bf16", ranges(module, layout))
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        optimised(converted, images)
    for one in (for_cpu(converted), weights_only(converted)):
        assert relative(optimised(one, images), pytorch(module, images)) <= 3e-2


def optimised(proto: onnx.ModelProto, images: Images) -> Images:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    outputs = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(outputs.run(None, {"images": images})[0])


@pytest.mark.parametrize("kind", KINDS)
def test_openvino(kind: HalfType, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    module, images, expected = trained("digits")
    converted, _ = in_half(float32_graph(module, "stacked"), kind, trained_ranges("digits", "stacked"))
    onnx.save(weights_only(converted), tmp_path / "model.onnx")
    compiled = openvino.Core().compile_model(tmp_path / "model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    got = np.asarray(compiled(images)[0])
    assert np.abs(got - expected).max() <= LOGIT_ERROR[kind]
