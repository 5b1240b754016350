"""Gemm -> MatMul + Add: α x Bᵀ + β c = x (α Bᵀ) + β c, for constant B and c."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from paraexport.rewrite.edit import (
    Applied,
    add_constant,
    add_node,
    attribute,
    clean,
    const,
    is_op,
    operands,
    result,
    substitute,
    take_name,
)
from paraexport.rewrite.views import sizes_of

NAME = "gemm"


def apply(graph: ir.Graph) -> Applied:
    """Counts the Gemm nodes that are gone."""
    applied = Applied(NAME)
    # A weight that several nodes share stays one constant.
    made: dict[tuple[ir.Value, bool, float], ir.Value] = {}
    for node in tuple(graph):
        if is_op(node, "Gemm"):
            applied.times += split(graph, node, made)
    clean(graph)
    return applied


def split(graph: ir.Graph, node: ir.Node, made: dict[tuple[ir.Value, bool, float], ir.Value]) -> bool:
    source, weight, *added = operands(node)
    array, bias = const(weight), const(added[0]) if added else None
    if array is None or array.ndim != 2 or attribute(node, "transA", 0) or (added and bias is None):
        return False
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    assert isinstance(alpha, float)
    assert isinstance(beta, float)
    key = weight, bool(attribute(node, "transB", 0)), alpha
    if key not in made:
        made[key] = weight
        if key[1] or alpha != 1:
            turned = array.T if key[1] else array
            scaled = turned if alpha == 1 else (turned.astype(np.float64) * alpha).astype(array.dtype)
            made[key] = add_constant(graph, f"{weight.name}/turned", scaled)
    output = result(node)
    shape = sizes_of(output) if output.shape is not None else None
    value = add_node(node, "MatMul", [source, made[key]], name=f"{node.name}/MatMul", shape=shape)
    if bias is not None:
        scaled = bias if beta == 1 else (bias.astype(np.float64) * beta).astype(bias.dtype)
        offset = added[0] if beta == 1 else add_constant(graph, f"{added[0].name}/scaled", scaled)
        value = add_node(node, "Add", [value, offset], name=f"{node.name}/Add", shape=shape)
    take_name(value, output)
    substitute(output, value)
    return True
