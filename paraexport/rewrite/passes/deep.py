"""Merges the products of a sum into one deep product.

Identity 6: Σ_l (h_l W_l + b_l) = [h_1 | … | h_L] [W_1; …; W_L] + Σ_l b_l, for h_l [B, N, K] and W_l [K, J]. The inner
index of the new product, of length L·K, does the work of the sum. Products of the same input need no longer input:
x W_1 + x W_2 = x (W_1 + W_2).

The pass applies to every sum with at least two products by constants. Other terms stay in the sum. A product stays too
if its result has other readers, or if its input differs from the others in more than the number of channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.edit import add_constant, add_node, clean, substitute, take_name
from paraexport.graph.naming import beside, joined, shared_scope
from paraexport.graph.query import const, operands, read_once, result, weight_of
from paraexport.graph.refusal import Applied
from paraexport.graph.shapes import dims, require_sizes
from paraexport.rewrite.patterns.sums import added, all_terms, is_sum, sum_nodes

NAME = "deep"
UNLIKE = "its input and those of the other products of the sum differ in other axes than the channels"
Array = NDArray[Any]


def apply(graph: ir.Graph) -> Applied:
    """Counts the sums whose products were merged."""
    applied = Applied(NAME)
    visited: set[ir.Node] = set()
    for node in reversed(list(graph)):
        if node in visited or not is_sum(node):
            continue
        total = result(node)
        visited.update(sum_nodes(total))
        terms = all_terms(total)
        candidates = [term for term in terms if weight_of(term.producer()) is not None]
        products = [
            term for term in candidates if not (reason := why_not(term, total)) or refuse(applied, term, reason)
        ]
        products = [term for term in products if fits_beside(term, products[0]) or refuse(applied, term, UNLIKE)]
        if len(products) > 1:
            merge(graph, node, terms, products)
            applied.times += 1
    clean(graph)
    return applied


def refuse(applied: Applied, term: ir.Value, reason: str) -> bool:
    """Report the node of a term. Returns False, for use in a condition."""
    node = term.producer()
    assert node is not None
    applied.refuse(node, reason)
    return False


def why_not(term: ir.Value, total: ir.Value) -> str | None:
    """The reason why this product of a sum cannot be merged, or None."""
    if not read_once(term):
        return "its result has other readers too"
    node = term.producer()
    assert node is not None
    before, after = dims(operands(node)[0]), dims(total)
    if before is None or after is None or len(before) < 2 or not differ_only_in_channels(operands(node)[0], total):
        return f"its input {list(before or ())} and the sum {list(after or ())} differ in other axes than the channels"
    return None


def merge(graph: ir.Graph, root: ir.Node, terms: Sequence[ir.Value], products: Sequence[ir.Value]) -> None:
    """Replace the sum by one product, its bias and the other terms."""
    total = result(root)
    nodes = [node for term in products if (node := term.producer())]
    weights: dict[ir.Value, list[Array]] = {}
    for node in nodes:
        weight = weight_of(node)
        assert weight is not None
        weights.setdefault(operands(node)[0], []).append(weight)
    name = product_name([node.name for node in nodes])
    inputs, deep = list(weights), np.concatenate([added(alike) for alike in weights.values()])
    lead, shape = require_sizes(inputs[0])[:-1], require_sizes(total)
    if len(inputs) > 1:
        wide = (*lead, deep.shape[0])
        inputs = [add_node(root, "Concat", inputs, {"axis": len(lead)}, name=beside(name, "Concat"), shape=wide)]
    weight_value = add_constant(graph, beside(name, "weight"), deep)
    value = add_node(root, "MatMul", [inputs[0], weight_value], name=name, shape=shape)
    merged = set(products)
    rest = [term for term in terms if term not in merged and const(term) is None]
    if biases := [bias for term in terms if (bias := const(term)) is not None]:
        bias_value = add_constant(graph, beside(name, "bias"), added(biases))
        value = add_node(root, "Add", [value, bias_value], name=beside(name, "Add"), shape=shape)
    if rest:
        op_type = "Add" if len(rest) == 1 else "Sum"
        value = add_node(root, op_type, [*rest, value], name=root.name or op_type, shape=shape)
    take_name(value, total)
    substitute(total, value)


def fits_beside(term: ir.Value, first: ir.Value) -> bool:
    """Whether the inputs of two products can be concatenated along the channels."""
    inputs = [operands(node)[0] for value in (term, first) if (node := value.producer())]
    return differ_only_in_channels(*inputs)


def differ_only_in_channels(left: ir.Value, right: ir.Value) -> bool:
    """Whether all axes but the last certainly have the same length. A free length without a name fits any free one."""
    sides = [require_sizes(value)[:-1] for value in (left, right)]
    if len(sides[0]) != len(sides[1]):
        return False
    for size, twin in zip(*sides, strict=True):
        if size != twin and (None not in {size, twin} or isinstance(size, int) or isinstance(twin, int)):
            return False
    return True


def product_name(names: Sequence[str | None]) -> str:
    scope = shared_scope(names)
    return scope if scope.endswith("MatMul") else joined(scope, "MatMul")
