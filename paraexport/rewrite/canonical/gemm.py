"""Replaces Gemm by MatMul and Add: α x Bᵀ + β c = x (α Bᵀ) + β c, for x [M, K] and constants B and c.

A Gemm with a computed B or c, or with transA, stays.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from paraexport.graph.attributes import float_of, int_of
from paraexport.graph.edit import add_constant, add_node, clean, substitute, take_name
from paraexport.graph.naming import joined
from paraexport.graph.query import const, input_of, is_matrix, is_op, operands, opset_of, result
from paraexport.graph.refusal import Applied, Refused
from paraexport.graph.shapes import require_sizes

NAME = "gemm"
MINIMUM_OPSET = 7
"""Before this opset, an attribute controlled the broadcasting of the bias."""


def apply(graph: ir.Graph) -> Applied:
    """Counts the Gemm nodes that were replaced."""
    applied = Applied(NAME)
    if opset_of(graph) < MINIMUM_OPSET:
        return applied
    # A weight that several nodes share stays one constant.
    weights: dict[tuple[ir.Value, bool, float], ir.Value] = {}
    for node in tuple(graph):
        if is_op(node, "Gemm"):
            try:
                applied.times += split(graph, node, weights)
            except Refused as reason:
                applied.refuse(node, reason)
    clean(graph)
    return applied


def split(graph: ir.Graph, node: ir.Node, weights: dict[tuple[ir.Value, bool, float], ir.Value]) -> bool:
    """Replace one Gemm, and return whether that was possible."""
    source, weight, added = operands(node)[0], input_of(node, 1), input_of(node, 2)
    array, bias = const(weight), const(added)
    alpha, beta, transposes_x = float_of(node, "alpha", 1.0), float_of(node, "beta", 1.0), int_of(node, "transA", 0)
    if weight is None or array is None or not is_matrix(array) or transposes_x or (added is not None and bias is None):
        return False
    key = weight, bool(int_of(node, "transB", 0)), alpha
    if key not in weights:
        weights[key] = weight
        if key[1] or alpha != 1:
            transposed = array.T if key[1] else array
            scaled = transposed if alpha == 1 else (transposed.astype(np.float64) * alpha).astype(array.dtype)
            weights[key] = add_constant(graph, f"{weight.name}/turned", scaled)
    output = result(node)
    shape = require_sizes(output) if output.shape is not None else None
    value = add_node(node, "MatMul", [source, weights[key]], name=joined(node.name or "", "MatMul"), shape=shape)
    if added is not None and bias is not None:
        scaled = bias if beta == 1 else (bias.astype(np.float64) * beta).astype(bias.dtype)
        offset = added if beta == 1 else add_constant(graph, f"{added.name}/scaled", scaled)
        value = add_node(node, "Add", [value, offset], name=joined(node.name or "", "Add"), shape=shape)
    take_name(value, output)
    substitute(output, value)
    return True
