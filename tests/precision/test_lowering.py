"""int8 refuses bad graphs before it reads an image, and leaves inferable shapes out of the file."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser
import pytest

from paraexport.errors import InputError
from paraexport.precision.int8 import lowering
from tests.precision.small import calibration, traced_file

SETTINGS = lowering.Int8Settings(keep=(), max_drop=None, equalised=True)


def test_a_graph_without_products_has_nothing_to_lower(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 23]> g (float[b,1,2,5] images) => (float[b,5] logits)'
    body = "{ axes = Constant <value_ints = [1, 2]> () logits = ReduceMean <keepdims = 0> (images, axes) }"
    onnx.save(onnx.parser.parse_model(f"{text} {body}"), tmp_path / "model.onnx")
    with pytest.raises(InputError, match="nothing to lower"):
        lowering.decide(tmp_path / "model.onnx", [calibration(tmp_path)], None, SETTINGS)


def test_shapes_are_left_out_where_they_can_be_inferred(tmp_path: Path) -> None:
    from paraexport.targets import Dialect

    traced = traced_file(tmp_path / "traced")
    decision = lowering.decide(traced, [calibration(tmp_path)], None, SETTINGS)
    for own_operators in (False, True):
        dialect, folder = Dialect(signed=False, own_operators=own_operators), tmp_path / str(own_operators)
        lowering.write(traced, "folded", dialect, folder, decision)
        model = onnx.load(folder / "model.onnx")
        assert bool(model.graph.value_info) is own_operators
        assert not {value.name for value in model.graph.value_info} & {value.name for value in model.graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        known = {value.name for value in inferred.value_info if value.type.tensor_type.HasField("shape")}
        assert {name for node in model.graph.node for name in node.output} - known <= {model.graph.output[0].name}
