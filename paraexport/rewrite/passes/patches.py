"""Reorders the channels of patches as they are in memory: the order of the inner index of a product is free.

Identity: Σ_k x_k W_kj = Σ_k x_π(k) W_π(k)j for any permutation π, with x [B, N, K] and W [K, J].

A Transpose and a Reshape cut an image into patches [B, N, p1·p2·c], which products by constants read. The axes of a
patch may keep their order in memory, c·p1·p2, if the rows of the weights move instead. Then the last axis stays last,
and the Transpose copies whole runs of numbers instead of single numbers.

The pass applies to a Transpose whose only reader is a Reshape that merges axes. It refuses if something else than
MatMuls by constants reads the result.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.attributes import attribute
from paraexport.graph.edit import add_constant, clean, replace_constant
from paraexport.graph.query import is_op, only_reader, operands, readers, result
from paraexport.graph.refusal import Applied, Refused, node_label
from paraexport.graph.shapes import dims
from paraexport.rewrite.patterns.products import Product, require_only_products

NAME = "patches"


def apply(graph: ir.Graph) -> Applied:
    """Counts the Transposes that changed."""
    applied = Applied(NAME)
    for node in list(graph):
        if is_op(node, "Transpose") and is_merged(node):
            try:
                applied.times += put_in_order(graph, node)
            except Refused as refusal:
                applied.refuse(node, refusal)
    clean(graph)
    return applied


def is_merged(node: ir.Node) -> bool:
    """Whether the only reader of the node is a Reshape that merges axes."""
    value = result(node)
    reader = only_reader(value)
    if reader is None or not is_op(reader, "Reshape") or operands(reader)[0] is not value:
        return False
    before, after = dims(value), dims(result(reader))
    return before is not None and after is not None and len(after) < len(before)


def put_in_order(graph: ir.Graph, node: ir.Node) -> bool:
    """Sort the axes that become the last axis, and return whether they were unsorted.

    Raises:
        Refused: something else than MatMuls by constants reads the result.
    """
    order, sizes = attribute(node, "perm"), dims(result(node))
    value = result(readers(result(node))[0])
    last = (dims(value) or (None,))[-1]
    if not isinstance(order, list | tuple) or sizes is None or len(order) != len(sizes) or not last:
        return False
    count = inner_axes(sizes, last)
    kept, inner = list(order[: len(order) - count]), list(order[len(order) - count :])
    if count < 2 or inner == sorted(inner):
        return False
    products = require_only_products(value)
    if gemms := [node_label(product.node) for product in products if not is_op(product.node, "MatMul")]:
        raise Refused(f"{value.name} is read by the Gemm {gemms[0]}; expected only MatMuls by constants")
    lengths = [size for size in sizes[len(order) - count :] if size is not None]
    # Row k of the new weights is row rows[k] of the old ones: number the old order, and sort its axes in the same way.
    rows = np.arange(last).reshape(lengths).transpose(np.argsort(inner)).reshape(-1)
    node.attributes["perm"] = ir.AttrInt64s("perm", [*kept, *sorted(inner)])
    result(node).shape = ir.Shape(
        [*(result(node).shape or ())[: len(kept)], *(lengths[at] for at in np.argsort(inner))]
    )
    move_rows(graph, products, rows)
    return True


def inner_axes(sizes: tuple[int | None, ...], last: int) -> int:
    """How many of the last axes together have this length; 0 if none do."""
    for count in range(1, len(sizes)):
        tail = [size for size in sizes[-count:] if size is not None]
        if len(tail) == count and math.prod(tail) == last:
            return count
    return 0


def move_rows(graph: ir.Graph, products: list[Product], rows: NDArray[np.intp]) -> None:
    """Reorder the rows of the weights. A weight that several products share stays shared."""
    moved: dict[ir.Value, ir.Value] = {}
    for product in products:
        old = product.shared_weight
        if old not in moved:
            array: NDArray[Any] = product.weight[rows]
            moved[old] = add_constant(graph, old.name or "weight", array)
        replace_constant(product.node, 1, moved[old])
