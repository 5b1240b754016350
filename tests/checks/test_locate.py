"""A fault planted in a known branch and layer is found there."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from paraexport.checks.locate import differences, first_difference
from paraexport.trace.trace import trace
from tests.trace.test_trace import random_model, small_spec

IMAGES = np.random.default_rng(0).normal(size=(2, 1, 8, 12)).astype(np.float32)


@pytest.mark.parametrize("module", ["branches.0/layers.0/attention/value", "branches.2/layers.1/feed_forward/fc1"])
def test_a_changed_weight_is_found_in_its_own_module(module: str, tmp_path: Path) -> None:
    model = random_model(small_spec())
    trace(model, model.spec, tmp_path / "model.onnx")
    assert first_difference(model, tmp_path / "model.onnx", IMAGES, 1e-5) is None
    assert len(differences(model, tmp_path / "model.onnx", IMAGES)) > 30
    proto = onnx.load(tmp_path / "model.onnx")
    (weight,) = [tensor for tensor in proto.graph.initializer if tensor.name == f"{module}/weight"]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    onnx.save(proto, tmp_path / "wrong.onnx")
    difference = first_difference(model, tmp_path / "wrong.onnx", IMAGES, 1e-5)
    assert difference is not None
    assert difference.name == module
    assert difference.relative == pytest.approx(0.01, rel=0.5)
