"""The operators of ONNX Runtime's own domain that its CPU kernels are fastest with, in the place of standard ones.

- `attention`, before attention is written out: `MultiHeadAttention` reads [B, N, h·d], so that four Transposes go.
- `products`, after quantising: `MatMulIntegerToFloat` is Q/DQ around a product, with the bias in it. ONNX Runtime makes
  it itself, but never with a bias.

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
from paraexport.graph.shapes import dims, require_sizes
from paraexport.rewrite.patterns.heads import check_plain, scale_of_scores
from paraexport.rewrite.stacking.views import Sizes, known

DOMAIN = "com.microsoft"
HEADS_FIRST, MATRIX = [0, 2, 1, 3], 2


def attention(graph: ir.Graph) -> Applied:
    """Every Attention whose queries, keys and values were cut into heads by a Transpose."""
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
    uncut = [before_heads(value) for value in operands(node)]
    heads = {known(require_sizes(value)[2:3], "the heads")[0] for value in uncut}
    if len(heads) != 1:
        raise Refused("several heads of queries share one of keys or values")
    name = node.name or "Attention"
    sources = [reshaped(graph, node, value, merged(require_sizes(value)), name) for value in uncut]
    batch, tokens, count, _ = require_sizes(uncut[0])
    head_dim = known(require_sizes(uncut[2])[3:], "a head")[0]
    whole = (batch, tokens, known((count,), "the heads")[0] * head_dim)
    attributes = {"num_heads": heads.pop(), "scale": scale_of_scores(node)}
    mixed = own_node(node, "MultiHeadAttention", sources, attributes, name=f"{name}/MultiHeadAttention", shape=whole)
    apart = reshaped(graph, node, mixed, (batch, tokens, count, head_dim), name)
    perm = {"perm": HEADS_FIRST}
    turned = (batch, count, tokens, head_dim)
    substitute(
        node.outputs[0], add_node(node, "Transpose", [apart], perm, name=beside(name, "Transpose"), shape=turned)
    )


def before_heads(value: ir.Value) -> ir.Value:
    """[B, N, h, d], of what a Transpose made [B, h, N, d]."""
    node = value.producer()
    if node is None or not is_op(node, "Transpose") or attribute(node, "perm") not in (HEADS_FIRST, tuple(HEADS_FIRST)):
        raise Refused(f"{value.name} is no Transpose of heads")
    return operands(node)[0]


def merged(sizes: Sizes) -> Sizes:
    batch, tokens, *rest = sizes
    heads, head_dim = known(rest, "a head")
    return batch, tokens, heads * head_dim


def reshaped(graph: ir.Graph, before: ir.Node, value: ir.Value, sizes: Sizes, name: str) -> ir.Value:
    target = np.array([-1, *known(sizes[1:], "a value")], np.int64)
    inputs = [value, add_constant(graph, beside(name, "shape"), target)]
    return add_node(before, "Reshape", inputs, {"allowzero": 1}, name=beside(name, "Reshape"), shape=sizes)


def products(graph: ir.Graph) -> Applied:
    """Every MatMul of two dequantised values, with the bias that is added to it."""
    applied = Applied("fused_products")
    for node in list(graph):
        factors = [value.producer() for value in operands(node)] if is_op(node, "MatMul") else []
        activation, weight = factors if len(factors) == 2 else (None, None)
        if activation is None or weight is None or not is_op(activation, "DequantizeLinear"):
            continue
        if is_op(weight, "DequantizeLinear") and (len(operands(activation)), len(operands(weight))) == (3, 2):
            fuse_product(node, activation, weight)
            applied.times += 1
    clean(graph)
    return applied


def fuse_product(node: ir.Node, activation: ir.Node, weight: ir.Node) -> None:
    integers, step, zero_point = operands(activation)
    columns, steps = operands(weight)
    # ONNX Runtime 1.32 adds the bias twice where a weight of more axes has a scale for each column.
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
    if (made := fused.producer()) is not None:
        made.name = name


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
    """A node of ONNX Runtime's domain in front of another, with one float32 output."""
    graph = before.graph
    assert graph is not None
    output = add_node(before, op_type, inputs, attributes, name=name, shape=shape)
    node = output.producer()
    assert node is not None
    node.domain, output.dtype = DOMAIN, ir.DataType.FLOAT
    graph.opset_imports[DOMAIN] = 1
    return output
