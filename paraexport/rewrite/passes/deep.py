"""One deep product: the products by constants that a sum adds up become one.

Identity 6. Σ_l (h_l W_l + b_l) = [h_1 | … | h_L] [W_1; …; W_L] + Σ_l b_l: the inner index of one long product runs over
what the sum and the products ran over. Products of the same input need no longer one, x W_1 + x W_2 = x (W_1 + W_2).
The terms that are no such products stay in the sum.
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
from paraexport.rewrite.patterns.sums import added, all_terms, is_inner, is_sum, tree

NAME = "deep"
UNLIKE = "its input is not as large as that of the other products"
Array = NDArray[Any]


def apply(graph: ir.Graph) -> Applied:
    """Merge the products of every sum that has at least two."""
    applied = Applied(NAME)
    seen: set[ir.Node] = set()
    for node in reversed(list(graph)):
        if node in seen or not is_sum(node):
            continue
        total = result(node)
        seen.update(part for value in tree(total) if (part := value.producer()) and (value is total or is_inner(value)))
        terms = all_terms(total)
        candidates = [term for term in terms if weight_of(term.producer()) is not None]
        products = [
            term for term in candidates if not (reason := why_not(term, total)) or refuse(applied, term, reason)
        ]
        products = [term for term in products if is_as_large(term, products[0]) or refuse(applied, term, UNLIKE)]
        if len(products) > 1:
            merge(graph, node, terms, products)
            applied.times += 1
    clean(graph)
    return applied


def refuse(applied: Applied, term: ir.Value, reason: str) -> bool:
    node = term.producer()
    assert node is not None
    applied.refuse(node, reason)
    return False


def why_not(term: ir.Value, total: ir.Value) -> str | None:
    """Why this product of a sum must stay by itself, or None."""
    if not read_once(term):
        return "its result is read elsewhere too"
    node = term.producer()
    assert node is not None
    left, whole = dims(operands(node)[0]), dims(total)
    if left is None or whole is None or len(left) < 2 or not alike_but_for_channels(operands(node)[0], total):
        return f"its input {list(left or ())} is not as large as the sum {list(whole or ())}"
    return None


def merge(graph: ir.Graph, root: ir.Node, terms: Sequence[ir.Value], products: Sequence[ir.Value]) -> None:
    """Replace the sum by one product, its bias and what is left."""
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
    gone = set(products)
    rest = [term for term in terms if term not in gone and const(term) is None]
    if biases := [bias for term in terms if (bias := const(term)) is not None]:
        bias_value = add_constant(graph, beside(name, "bias"), added(biases))
        value = add_node(root, "Add", [value, bias_value], name=beside(name, "Add"), shape=shape)
    if rest:
        op_type = "Add" if len(rest) == 1 else "Sum"
        value = add_node(root, op_type, [*rest, value], name=root.name or op_type, shape=shape)
    take_name(value, total)
    substitute(total, value)


def is_as_large(term: ir.Value, first: ir.Value) -> bool:
    """Whether the inputs of two products can stand side by side."""
    inputs = [operands(node)[0] for value in (term, first) if (node := value.producer())]
    return alike_but_for_channels(*inputs)


def alike_but_for_channels(one: ir.Value, other: ir.Value) -> bool:
    """Whether all axes but the last are of one length; two free lengths of different names need not be."""
    sides = [require_sizes(value)[:-1] for value in (one, other)]
    if len(sides[0]) != len(sides[1]):
        return False
    for size, twin in zip(*sides, strict=True):
        if size != twin and (None not in {size, twin} or isinstance(size, int) or isinstance(twin, int)):
            return False
    return True


def product_name(names: Sequence[str | None]) -> str:
    scope = shared_scope(names)
    return scope if scope.endswith("MatMul") else joined(scope, "MatMul")
