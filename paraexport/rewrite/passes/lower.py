"""Lowers a graph from opset 23 or later to 20, which every target reads, or to another opset.

Identity: Attention(q, k, v) = softmax(s q kᵀ) v with s = 1/√d, for q, k, v [B, h, N, d] (ONNX operators,
`Attention`-23). The factor s goes into the constants of the product behind q or k: s (x W + b) = x (s W) + s b. If
neither comes from such a product, q is multiplied by s, because q is never larger than the scores.

All other nodes keep their form and get the new opset. The pass refuses the whole graph if a node has another meaning at
the new opset, or does not exist there.
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
"""Before this opset, `ceil_mode` added a window if the last one would begin in the padding."""
MOD_OF_FLOATS = 28
"""From this opset on, Mod with the sign of the divisor works for floating-point numbers too."""
MEANS_SOMETHING_ELSE_BELOW = {"GroupNormalization": 21, "AveragePool": 19, "Resize": 19, "GridSample": 20, "Pad": 18}
"""Before this opset, the operator has the same name and attributes, but another meaning."""


def apply(model: ir.Model, opset: int = OPSET, origin: int | None = None) -> Applied:
    """Bring the model to `opset`, or leave it unchanged and report every obstacle. Counts the written-out attentions.

    `origin` is the opset in which the file was written, if the model has another opset now.
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
        applied.refusals.append(f"{graph.name}: its opset is {version}, which is older than {opset}")
    if model.functions:
        applied.refusals.append(f"{graph.name}: it has its own functions")
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
    """Refuse a standard operator that does not mean the same at `opset` as at `origin`."""
    if node.domain not in {"", "ai.onnx"}:
        return
    if not defs.has(node.op_type, opset):
        raise Refused(f"{node.op_type} is newer than opset {opset}")
    schema = defs.get_schema(node.op_type, opset)
    changed = changed_in(node)
    if opset < changed <= origin or origin < changed <= opset or schema.deprecated:
        raise Refused(f"{node.op_type} has another meaning at opset {opset}")
    if opset < MEANS_SOMETHING_ELSE_BELOW.get(node.op_type, 0):
        raise Refused(f"{node.op_type} has another meaning at opset {opset}")
    if unknown := sorted(set(node.attributes) - set(schema.attributes)):
        raise Refused(f"{node.op_type} has no attribute {unknown[0]} at opset {opset}")
    if len(node.inputs) > schema.max_input or len(node.outputs) > schema.max_output:
        raise Refused(f"{node.op_type} allows fewer inputs or outputs at opset {opset}")
    for value in (*operands(node), *node.outputs):
        if value.dtype is not None and value.dtype.name in NEW_TYPES:
            raise Refused(f"{value.dtype.name} is newer than opset {opset}")
    check_types(node, schema, opset)


def check_types(node: ir.Node, schema: defs.OpSchema, opset: int) -> None:
    """Refuse a node with an input or output type that the operator does not allow at `opset`."""
    for values, formal in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for index, given in enumerate(values):
            # The last formal parameter may represent several inputs.
            check_type(node, given, formal[min(index, len(formal) - 1)].types, opset)


def changed_in(node: ir.Node) -> int:
    """The opset from which on a node with these attributes and types has another meaning; 0 if there is none."""
    if is_op(node, *ROUNDED_UP) and int_of(node, "ceil_mode", 0):
        return ROUNDED_UP[node.op_type]
    kind = operands(node)[0].dtype if is_op(node, "Mod") else None
    return MOD_OF_FLOATS if kind is not None and kind.is_floating_point() and not int_of(node, "fmod", 0) else 0


def check_type(node: ir.Node, value: ir.Value | None, types: Collection[str], opset: int) -> None:
    """Refuse a type that the operator does not allow at `opset`."""
    kind = value.type if value is not None else None
    if isinstance(kind, ir.TensorType) and types and type_name(kind.dtype) not in types:
        raise Refused(f"{node.op_type} of {kind.dtype.name} is newer than opset {opset}")


def type_name(dtype: ir.DataType) -> str:
    """The name of a type in the schemas of operators: `tensor(float16)`."""
    return f"tensor({dtype.name.lower()})"
