"""The shapes and types of what one node gives, as ONNX's own inference tells them."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import onnx_ir.serde
from onnx import defs, shape_inference

from paraexport.graph.query import const, operands, opset_of


def infer(node: ir.Node) -> None:
    """Give the outputs of a node the shapes that ONNX's own inference tells, where it tells more than is known."""
    graph, domain = node.graph, node.domain if node.domain != "ai.onnx" else ""
    version = None if graph is None else opset_of(graph) if not domain else graph.opset_imports.get(domain)
    if not version or not defs.has(node.op_type, version, domain):
        return
    schema = defs.get_schema(node.op_type, version, domain)
    values = [value for value in operands(node) if value.name]
    types = {str(value.name): type_of(value) for value in values if value.type is not None}
    if len(types) < len({value.name for value in values}):
        return
    data = {str(value.name): small for value in values if (small := small_tensor(value)) is not None}
    try:
        found = shape_inference.infer_node_outputs(schema, ir.serde.serialize_node(node), types, data)
    except Exception:  # onnx raises classes of its own, and C++ ones; what is not inferred stays unknown
        return
    for value in node.outputs:
        told = found.get(value.name or "")
        if told is None or value.is_graph_output():
            continue
        value.type = ir.serde.deserialize_type_proto_for_type(told)
        if (shape := ir.serde.deserialize_type_proto_for_shape(told)) is not None:
            value.shape = merged(shape, value.shape)


def merged(told: ir.Shape, noted: ir.Shape | None) -> ir.Shape:
    """The shape told by inference; where that leaves a length open, the number that the file notes."""
    if noted is None or len(noted) != len(told):
        return told
    pairs = zip(told, noted, strict=True)
    return ir.Shape([other if is_open(size) and isinstance(other, int) else size for size, other in pairs])


def is_open(size: int | ir.SymbolicDim) -> bool:
    return not isinstance(size, int) and size.value is None


def type_of(value: ir.Value) -> onnx.TypeProto:
    proto = onnx.TypeProto()
    assert value.type is not None
    onnx_ir.serde.serialize_type_into(proto, value.type)
    if value.shape is not None:
        onnx_ir.serde.serialize_shape_into(proto, value.shape)
    return proto


def small_tensor(value: ir.Value) -> onnx.TensorProto | None:
    array = const(value)
    if array is None or array.dtype.kind not in "iub" or array.size > 64:
        return None
    return onnx.numpy_helper.from_array(array, str(value.name))
