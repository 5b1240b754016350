"""Infers the shapes and types of the outputs of one node, with ONNX's own inference."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import onnx_ir.serde
from onnx import defs, shape_inference

from paraexport.graph.query import const, operands, opset_of
from paraexport.graph.shapes import is_known


def infer(node: ir.Node) -> None:
    """Give the outputs of a node the types and shapes that ONNX infers. Nothing happens if they cannot be inferred."""
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
        inferred = shape_inference.infer_node_outputs(schema, ir.serde.serialize_node(node), types, data)
    except Exception:  # onnx raises classes of its own, and C++ ones; the shapes stay unknown
        return
    for value in node.outputs:
        proto = inferred.get(value.name or "")
        if proto is None or value.is_graph_output():
            continue
        value.type = ir.serde.deserialize_type_proto_for_type(proto)
        if (shape := ir.serde.deserialize_type_proto_for_shape(proto)) is not None:
            value.shape = merged(shape, value.shape)


def merged(inferred: ir.Shape, stated: ir.Shape | None) -> ir.Shape:
    """The inferred shape. If it leaves a length unknown, the number that the file states is used."""
    if stated is None or len(stated) != len(inferred):
        return inferred
    pairs = zip(inferred, stated, strict=True)
    return ir.Shape([given if not is_known(size) and isinstance(given, int) else size for size, given in pairs])


def type_of(value: ir.Value) -> onnx.TypeProto:
    proto = onnx.TypeProto()
    assert value.type is not None
    onnx_ir.serde.serialize_type_into(proto, value.type)
    if value.shape is not None:
        onnx_ir.serde.serialize_shape_into(proto, value.shape)
    return proto


def small_tensor(value: ir.Value) -> onnx.TensorProto | None:
    """A small constant of integers, such as a target shape. Inference needs its numbers."""
    array = const(value)
    if array is None or array.dtype.kind not in "iub" or array.size > 64:
        return None
    return onnx.numpy_helper.from_array(array, str(value.name))
