"""Replaces standard operators by those of ONNX Runtime's own domain that are fastest on a CPU.

- `attention` runs before attention is written out. `MultiHeadAttention` reads [B, N, h·d], which saves four Transposes.
- `products` runs after quantising. `MatMulIntegerToFloat` does the work of Q/DQ around a product, and adds the bias.
  ONNX Runtime makes this operator itself, but never with a bias.

`benchmarks.forms` measures both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from paraexport.graph.attributes import attribute
from paraexport.graph.edit import add_constant, add_node, clean, substitute, take_name
from paraexport.graph.naming import beside
from paraexport.graph.query import bias_behind, const, is_op, operands, result
from paraexport.graph.refusal import Applied, Refused
from paraexport.graph.shapes import Sizes, dims, require_numbers, require_sizes
from paraexport.rewrite.patterns.heads import check_plain, scale_of_scores

DOMAIN = "com.microsoft"
HEADS_FIRST, MATRIX = [0, 2, 1, 3], 2


def attention(graph: ir.Graph) -> Applied:
    """Fuse every Attention whose queries, keys and values come from a Transpose that splits them into heads."""
    applied = Applied("fused_attention")
    for node in list(graph):
        if is_op(node, "Attention"):
            try:
                fuse_attention(graph, node)
                applied.times += 1
            except Refused as refusal:
                applied.refuse(node, refusal)
    clean(graph)
    return applied


def fuse_attention(graph: ir.Graph, node: ir.Node) -> None:
    check_plain(node)
    # Queries, keys and values [B, N, h, d], before their Transpose to [B, h, N, d].
    inputs = [before_transpose(value) for value in operands(node)]
    heads = {require_numbers(require_sizes(value)[2:3], "the heads")[0] for value in inputs}
    if len(heads) != 1:
        raise Refused("several heads of queries share one of keys or values")
    name = node.name or "Attention"
    sources = [reshape(graph, node, value, merge_heads(require_sizes(value)), name) for value in inputs]
    batch, tokens, count, _ = require_sizes(inputs[0])
    head_dim = require_numbers(require_sizes(inputs[2])[3:], "a head")[0]
    merged = (batch, tokens, require_numbers((count,), "the heads")[0] * head_dim)
    attributes = {"num_heads": heads.pop(), "scale": scale_of_scores(node)}
    mixed = own_node(node, "MultiHeadAttention", sources, attributes, name=f"{name}/MultiHeadAttention", shape=merged)
    # Back to [B, h, N, d], which readers of the Attention expect. If they transpose it again, `tidy` removes both.
    split = reshape(graph, node, mixed, (batch, tokens, count, head_dim), name)
    perm = {"perm": HEADS_FIRST}
    shape = (batch, count, tokens, head_dim)
    substitute(node.outputs[0], add_node(node, "Transpose", [split], perm, name=beside(name, "Transpose"), shape=shape))


def before_transpose(value: ir.Value) -> ir.Value:
    """The input [B, N, h, d] of the Transpose that makes this value [B, h, N, d]."""
    node = value.producer()
    if node is None or not is_op(node, "Transpose") or attribute(node, "perm") not in (HEADS_FIRST, tuple(HEADS_FIRST)):
        raise Refused(f"{value.name} is not a Transpose of heads")
    return operands(node)[0]


def merge_heads(sizes: Sizes) -> Sizes:
    """[B, N, h, d] -> [B, N, h·d]."""
    batch, tokens, *rest = sizes
    heads, head_dim = require_numbers(rest, "a head")
    return batch, tokens, heads * head_dim


def reshape(graph: ir.Graph, before: ir.Node, value: ir.Value, sizes: Sizes, name: str) -> ir.Value:
    target = np.array([-1, *require_numbers(sizes[1:], "a value")], np.int64)
    inputs = [value, add_constant(graph, beside(name, "shape"), target)]
    return add_node(before, "Reshape", inputs, {"allowzero": 1}, name=beside(name, "Reshape"), shape=sizes)


def products(graph: ir.Graph) -> Applied:
    """Fuse every MatMul of two dequantised values, together with its bias."""
    applied = Applied("fused_products")
    for node in list(graph):
        factors = [value.producer() for value in operands(node)] if is_op(node, "MatMul") else []
        activation, weight = factors if len(factors) == 2 else (None, None)
        if activation is None or weight is None or not is_op(activation, "DequantizeLinear"):
            continue
        # Activations have a zero point (3 inputs), weights have none (2 inputs).
        if is_op(weight, "DequantizeLinear") and (len(operands(activation)), len(operands(weight))) == (3, 2):
            fuse_product(node, activation, weight)
            applied.times += 1
    clean(graph)
    return applied


def fuse_product(node: ir.Node, activation: ir.Node, weight: ir.Node) -> None:
    integers, step, zero_point = operands(activation)
    columns, steps = operands(weight)
    # Only with a weight of two axes: ONNX Runtime 1.32 adds the bias twice if a weight of more axes has a scale for
    # each column.
    adding, _ = bias_behind(node) or (None, None) if len(dims(columns) or ()) == MATRIX else (None, None)
    bias = None if adding is None else next((value for value in operands(adding) if is_row(value)), None)
    last = node if adding is None or bias is None else adding
    name, shape = node.name or "MatMul", require_sizes(result(last))
    inputs = [integers, columns, step, steps, zero_point, None, bias]
    node.name = f"{name}.before"
    fused = own_node(last, "MatMulIntegerToFloat", inputs, {}, name=name, shape=shape)
    output = result(last)
    substitute(output, fused)
    take_name(fused, output)
    if (fused_node := fused.producer()) is not None:
        fused_node.name = name


def is_row(value: ir.Value) -> bool:
    array = const(value)
    return array is not None and array.ndim == 1 and array.size > 1


def own_node(
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: dict[str, int | float],
    *,
    name: str,
    shape: Sizes,
) -> ir.Value:
    """Insert a node of ONNX Runtime's domain before another node; returns its float32 output."""
    graph = before.graph
    assert graph is not None
    output = add_node(before, op_type, inputs, attributes, name=name, shape=shape)
    node = output.producer()
    assert node is not None
    node.domain, output.dtype = DOMAIN, ir.DataType.FLOAT
    graph.opset_imports[DOMAIN] = 1
    return output
