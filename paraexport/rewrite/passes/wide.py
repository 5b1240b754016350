"""One wide product: products of the same input by different constants become one, and a Split.

Identity 5. [x W_1 | … | x W_n] = x [W_1 | … | W_n], for weights [K, J_i], or [L, K, J_i] of stacked branches; where
every product has a bias, [b_1 | … | b_n] is added to the whole. So query, key and value of one branch, or those of
all branches that read the same tokens, are one product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.edit import (
    Applied,
    add_constant,
    add_node,
    bias_of,
    clean,
    const,
    is_op,
    only_reader,
    opset_of,
    readers,
    result,
    substitute,
)
from paraexport.graph.free_names import fresh, names_in
from paraexport.graph.naming import beside, joined, shared_scope
from paraexport.rewrite.stacking.views import sizes_of

NAME = "wide"
MINIMUM_OPSET = 13
"""Since then Split takes its sizes as an input."""
Array = NDArray[Any]


def apply(graph: ir.Graph, most_columns: int | None = None) -> Applied:
    """Merge the products of every value, as many at a time as have at most `most_columns` columns together."""
    applied = Applied(NAME)
    if opset_of(graph) < MINIMUM_OPSET:
        applied.refusals.append(f"graph: its opset is below {MINIMUM_OPSET}")
        return applied
    order = {node: index for index, node in enumerate(graph)}
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    for value in values:
        products = sorted((node for node in readers(value) if reads(node, value, order)), key=order.__getitem__)
        for alike in by_rows(products):
            for group in chunks(alike, most_columns):
                if len(group) > 1:
                    merge(graph, value, group)
                    applied.times += 1
                elif len(alike) > 1:
                    applied.refuse(group[0], f"with its neighbours it has more than {most_columns} columns")
    clean(graph)
    return applied


def matrix(node: ir.Node) -> Array:
    """The constant [K, J] or [L, K, J] of a product."""
    weight = const(node.inputs[1])
    assert weight is not None
    return weight


def reads(node: ir.Node, value: ir.Value, order: dict[ir.Node, int]) -> bool:
    """Whether the node is a product of `value` by a matrix of constants, as much as `value` is a stack of matrices."""
    if node not in order or not is_op(node, "MatMul") or node.inputs[0] is not value or result(node).shape is None:
        return False
    weight, rank = const(node.inputs[1]), len(value.shape or ())
    return const(value) is None and weight is not None and weight.size > 0 and rank >= weight.ndim >= 2


def by_rows(products: Sequence[ir.Node]) -> list[list[ir.Node]]:
    """The products whose weights differ in their columns only."""
    groups: dict[tuple[int, ...], list[ir.Node]] = {}
    for node in products:
        groups.setdefault(matrix(node).shape[:-1], []).append(node)
    return list(groups.values())


def chunks(products: Sequence[ir.Node], most_columns: int | None) -> Iterator[list[ir.Node]]:
    """The products in order, as many at a time as the bound allows."""
    limit = math.inf if most_columns is None else most_columns
    chunk: list[ir.Node] = []
    columns = 0
    for node in products:
        width = matrix(node).shape[-1]
        if chunk and columns + width > limit:
            yield chunk
            chunk, columns = [], 0
        chunk.append(node)
        columns += width
    if chunk:
        yield chunk


def merge(graph: ir.Graph, value: ir.Value, products: Sequence[ir.Node]) -> None:
    """Replace the products, and their biases where each has one, by one product and a Split."""
    first = products[0]
    scope = shared_scope([node.name for node in products]).removesuffix("/MatMul")
    weights = [matrix(node) for node in products]
    widths = [weight.shape[-1] for weight in weights]
    results = [result(node) for node in products]
    shape = (*sizes_of(results[0])[:-1], sum(widths))
    weight = add_constant(graph, joined(scope, "weight"), np.concatenate(weights, axis=-1))
    whole = add_node(first, "MatMul", [value, weight], name=joined(scope, "MatMul"), shape=shape)
    biased = [bias_after(value, width) for value, width in zip(results, widths, strict=True)]
    if all(found is not None for found in biased):
        results = [result(node) for node, _ in filter(None, biased)]
        bias = add_constant(graph, joined(scope, "bias"), side_by_side([bias for _, bias in filter(None, biased)]))
        whole = add_node(first, "Add", [whole, bias], name=joined(scope, "Add"), shape=shape)
    for old, new in zip(results, split(graph, first, whole, widths), strict=True):
        substitute(old, new)


def bias_after(value: ir.Value, width: int) -> tuple[ir.Node, Array] | None:
    """(the Add that alone reads the product, its bias, as wide as the product), or None."""
    node = only_reader(value)
    found = bias_of(node)
    if node is None or found is None or found[0] is not value:
        return None
    bias = found[1]
    # A bias of zeros may have been shrunk to one number.
    return node, np.broadcast_to(bias, (*bias.shape[:-1], width))


def side_by_side(biases: Sequence[Array]) -> Array:
    lead = np.broadcast_shapes(*(bias.shape[:-1] for bias in biases))
    return np.concatenate([np.broadcast_to(bias, (*lead, bias.shape[-1])) for bias in biases], axis=-1)


def split(graph: ir.Graph, before: ir.Node, whole: ir.Value, widths: Sequence[int]) -> Sequence[ir.Value]:
    """The columns of `whole` in parts of these widths."""
    assert whole.name is not None
    sizes = add_constant(graph, beside(whole.name, "split"), np.asarray(widths, np.int64))
    taken = names_in(graph)
    node = ir.node("Split", [whole, sizes], attributes={"axis": -1}, num_outputs=len(widths))
    node.name = fresh(beside(whole.name, "Split"), taken)
    for index, (part, width) in enumerate(zip(node.outputs, widths, strict=True)):
        part.name, part.type = fresh(f"{node.name}:{index}", taken), whole.type
        part.shape = ir.Shape([*sizes_of(whole)[:-1], width])
    graph.insert_before(before, node)
    return node.outputs
