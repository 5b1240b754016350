"""Opset 23 and later -> 20, which every target reads, or another: `Attention` is written out, the rest is relabelled.

Attention(q, k, v) = softmax(s q kᵀ) v with s = 1/√d (ONNX operators, `Attention`-23). s is a factor of q or of k, so it
goes into the constants of the product that one of them comes from, s (x W + b) = x (s W) + s b, where what lies between
only moves numbers. Where neither comes from such a product, q is multiplied: it is never larger than the scores.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir
from onnx import defs

from paraexport.graph.attributes import int_of
from paraexport.graph.edit import clean
from paraexport.graph.query import is_op, operands
from paraexport.graph.refusal import Applied, Refused
from paraexport.rewrite.passes.decompose import WrittenOut

NAME = "lower"
OPSET = 20
NEW_TYPES = frozenset({"INT2", "UINT2", "INT4", "UINT4", "FLOAT4E2M1", "FLOAT8E8M0"})
ROUNDED_UP = {"AveragePool": 22, "LpPool": 22, "MaxPool": 22}
"""With `ceil_mode`, a last window that would begin in the padding was one more until then."""
MOD_OF_FLOATS = 28
MEANS_SOMETHING_ELSE_BELOW = {"GroupNormalization": 21, "AveragePool": 19, "Resize": 19, "GridSample": 20, "Pad": 18}
"""These have the same name and attributes at older opsets, but read them in another way."""


def apply(model: ir.Model, opset: int = OPSET, origin: int | None = None) -> Applied:
    """Bring the model to `opset`, or leave it whole and say what keeps it from there.

    `origin` is the opset that it was written in, if another than it is in now.
    """
    applied = Applied(NAME)
    graph, version = model.graph, model.opset_imports.get("", opset)
    attentions: list[WrittenOut] = []
    for node in ir.traversal.RecursiveGraphIterator(graph):
        try:
            if is_op(node, "Attention") and node.graph is graph:
                attentions.append(WrittenOut(node))
            else:
                check_node(node, opset, version if origin is None else origin)
        except Refused as reason:
            applied.refuse(node, reason)
    if version < opset:
        applied.refusals.append(f"{graph.name}: it is of opset {version}, older than {opset}")
    if model.functions:
        applied.refusals.append(f"{graph.name}: it has functions of its own")
    if applied.refusals:
        return applied
    for attention in attentions:
        attention.write(graph)
    clean(graph)
    for node in ir.traversal.RecursiveGraphIterator(graph):
        node.version = None
    model.opset_imports[""] = graph.opset_imports[""] = opset
    applied.times = len(attentions)
    return applied


def check_node(node: ir.Node, opset: int, origin: int) -> None:
    """Raise unless the node means the same at `opset` as at `origin`, or is of another domain."""
    if node.domain not in {"", "ai.onnx"}:
        return
    if not defs.has(node.op_type, opset):
        raise Refused(f"{node.op_type} is newer than opset {opset}")
    schema = defs.get_schema(node.op_type, opset)
    changed = changed_in(node)
    if opset < changed <= origin or origin < changed <= opset or schema.deprecated:
        raise Refused(f"{node.op_type} is another operator at opset {opset}")
    if opset < MEANS_SOMETHING_ELSE_BELOW.get(node.op_type, 0):
        raise Refused(f"{node.op_type} is another operator at opset {opset}")
    if unknown := sorted(set(node.attributes) - set(schema.attributes)):
        raise Refused(f"{node.op_type} has no {unknown[0]} at opset {opset}")
    if len(node.inputs) > schema.max_input or len(node.outputs) > schema.max_output:
        raise Refused(f"{node.op_type} has fewer inputs or outputs at opset {opset}")
    for value in (*operands(node), *node.outputs):
        if value.dtype is not None and value.dtype.name in NEW_TYPES:
            raise Refused(f"{value.dtype.name} is newer than opset {opset}")
    check_types(node, schema, opset)


def check_types(node: ir.Node, schema: defs.OpSchema, opset: int) -> None:
    """Raise where the operator is newer for one of its types than the opset."""
    for values, formal in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for index, given in enumerate(values):
            # The last one may stand for any number.
            check_type(node, given, formal[min(index, len(formal) - 1)].types, opset)


def changed_in(node: ir.Node) -> int:
    """The opset from which on a node with these attributes and types means something else; 0 where there is none."""
    if is_op(node, *ROUNDED_UP) and int_of(node, "ceil_mode", 0):
        return ROUNDED_UP[node.op_type]
    kind = operands(node)[0].dtype if is_op(node, "Mod") else None
    # Before, a remainder with the sign of the divisor was for integers alone.
    return MOD_OF_FLOATS if kind is not None and kind.is_floating_point() and not int_of(node, "fmod", 0) else 0


def check_type(node: ir.Node, value: ir.Value | None, types: Collection[str], opset: int) -> None:
    """Raise where the operator is newer for this type than the opset."""
    kind = value.type if value is not None else None
    if isinstance(kind, ir.TensorType) and types and type_name(kind.dtype) not in types:
        raise Refused(f"{node.op_type} of {kind.dtype.name} is newer than opset {opset}")


def type_name(dtype: ir.DataType) -> str:
    """As in the schemas of operators: `tensor(float16)`."""
    return f"tensor({dtype.name.lower()})"
