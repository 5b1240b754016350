"""Reads a Sum, or a tree of Adds, as a list of terms. The terms have one shape; interim results have one reader."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.query import const, is_op, operands, read_once, result, weight_of
from paraexport.graph.shapes import dims
from paraexport.rewrite.stacking.signatures import Signatures


def is_sum(node: ir.Node | None) -> bool:
    """Whether the node adds constants and values that have the shape of its result."""
    if node is None or not is_op(node, "Add", "Sum") or len(operands(node)) < 2 or node.attributes:
        return False
    whole = dims(result(node))
    return whole is not None and all(const(value) is not None or dims(value) == whole for value in operands(node))


def is_inner(value: ir.Value) -> bool:
    """Whether the value is a sum with one reader. Its terms then count as terms of the reader."""
    return read_once(value) and is_sum(value.producer())


def terms_of(value: ir.Value) -> list[ir.Value]:
    """The operands of the sum that computes `value`."""
    node = value.producer()
    assert node is not None
    return operands(node)


def all_terms(total: ir.Value) -> list[ir.Value]:
    """The terms of the sum `total`, from left to right, through all inner sums."""
    return [value for value in tree(total) if value is not total and not is_inner(value)]


def tree(total: ir.Value) -> Iterator[ir.Value]:
    """`total`, its inner sums and their terms. Each sum comes before its terms."""
    pending = [total]
    while pending:
        value = pending.pop()
        yield value
        if value is total or is_inner(value):
            pending.extend(reversed(terms_of(value)))


def sum_nodes(total: ir.Value) -> set[ir.Node]:
    """The node of the sum `total`, and those of its inner sums."""
    sums = (value for value in tree(total) if value is total or is_inner(value))
    return {node for value in sums if (node := value.producer())}


def branch_leaves(total: ir.Value, signatures: Signatures) -> list[ir.Value]:
    """The terms of the sum `total` that are whole branches: x + f(x) stays one term, (a + b) + c becomes three.

    An inner sum may be a part of the sum over branches, or a skip inside a branch. It is a part of the sum over
    branches if two terms inside it are alike. If they are not, it is split only if a term inside is like a term
    outside, as a and b in ((a + odd) + b).
    """
    inside = {value: subtree(value, signatures) for value in dict.fromkeys(tree(total))}
    leaves: list[ir.Value] = []
    pending = [total]
    while pending:
        value = pending.pop()
        if (value is total or is_inner(value)) and (value is total or max(inside[value].values(), default=0) > 1):
            pending.extend(reversed(terms_of(value)))
        else:
            leaves.append(value)
    while (mixed := mixed_leaf(leaves, inside, signatures)) is not None:
        leaves[mixed : mixed + 1] = terms_of(leaves[mixed])
    return leaves


def subtree(total: ir.Value, signatures: Signatures) -> Counter[int]:
    """How often each signature occurs in the tree of a sum. Constants do not count, and each value counts once."""
    values = dict.fromkeys(tree(total)) if is_inner(total) else {total: None}
    return Counter(signatures.signature(value) for value in values if const(value) is None)


def mixed_leaf(leaves: list[ir.Value], inside: dict[ir.Value, Counter[int]], signatures: Signatures) -> int | None:
    """The index of a leaf that is not like any other leaf, but contains a term that is; None if there is none."""
    counts = Counter(signatures.signature(leaf) for leaf in leaves)
    for index, leaf in enumerate(leaves):
        if counts[signatures.signature(leaf)] == 1 and is_inner(leaf):
            others = counts.keys() - {signatures.signature(leaf)}
            if any(inside[leaf][signature] for signature in others):
                return index
    return None


def added(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The sum of constants of one dtype, computed in float64 and rounded once."""
    total = functools.reduce(np.add, [array.astype(np.float64) for array in arrays])
    return np.asarray(total, arrays[0].dtype)


def look_like_branches(values: list[ir.Value]) -> bool:
    """Whether at least two of the values depend on a product by constants that no other value depends on."""
    cones = [ancestry(value) for value in values]
    counts = Counter(node for cone in cones for node in cone)
    has_own = [any(counts[node] == 1 and weight_of(node) is not None for node in cone) for cone in cones]
    return sum(has_own) >= 2


def ancestry(value: ir.Value) -> set[ir.Node]:
    """Every node that the value depends on."""
    nodes: set[ir.Node] = set()
    pending = [value.producer()]
    while pending:
        node = pending.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            pending.extend(source.producer() for source in operands(node))
    return nodes
