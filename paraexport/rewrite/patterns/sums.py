"""Sums as a list of terms: a Sum, or a tree of Adds, of values of one shape whose interim results nobody else reads."""

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
    """Whether the node adds values, each as large as its result or a constant."""
    if node is None or not is_op(node, "Add", "Sum") or len(operands(node)) < 2 or node.attributes:
        return False
    whole = dims(result(node))
    return whole is not None and all(const(value) is not None or dims(value) == whole for value in operands(node))


def is_inner(value: ir.Value) -> bool:
    """Whether the value is a sum that only its one reader sees, so that its terms are terms of the reader."""
    return read_once(value) and is_sum(value.producer())


def terms_of(value: ir.Value) -> list[ir.Value]:
    """The operands of the sum that gives `value`."""
    node = value.producer()
    assert node is not None
    return operands(node)


def all_terms(total: ir.Value) -> list[ir.Value]:
    """The terms of the sum `total`, from left to right, through all inner sums."""
    return [value for value in tree(total) if value is not total and not is_inner(value)]


def tree(total: ir.Value) -> Iterator[ir.Value]:
    """`total`, its inner sums and their terms, each before what it is made of."""
    pending = [total]
    while pending:
        value = pending.pop()
        yield value
        if value is total or is_inner(value):
            pending.extend(reversed(terms_of(value)))


def branch_leaves(total: ir.Value, signatures: Signatures) -> list[ir.Value]:
    """The terms of the sum `total` that are whole branches: x + f(x) stays one term, (a + b) + c is three.

    A sum is one over branches where two of the terms inside it are alike; where they are not, it is opened only if that
    lets a term inside meet its like outside, as in ((a + odd) + b).
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
    """How often each signature stands in the tree of a sum, constants left out and each value counted once."""
    values = dict.fromkeys(tree(total)) if is_inner(total) else {total: None}
    return Counter(signatures.signature(value) for value in values if const(value) is None)


def mixed_leaf(leaves: list[ir.Value], inside: dict[ir.Value, Counter[int]], signatures: Signatures) -> int | None:
    """The index of a leaf like no other that has the like of another leaf in it."""
    counts = Counter(signatures.signature(leaf) for leaf in leaves)
    for index, leaf in enumerate(leaves):
        if counts[signatures.signature(leaf)] == 1 and is_inner(leaf):
            others = counts.keys() - {signatures.signature(leaf)}
            if any(inside[leaf][other] for other in others):
                return index
    return None


def added(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The sum of constants of one dtype, rounded to it once."""
    total = functools.reduce(np.add, [array.astype(np.float64) for array in arrays])
    return np.asarray(total, arrays[0].dtype)


def look_like_branches(values: list[ir.Value]) -> bool:
    """Whether at least two of the values have a product by constants of their own, which no other value rests on."""
    cones = [ancestry(value) for value in values]
    seen = Counter(node for cone in cones for node in cone)
    own = [any(seen[node] == 1 and weight_of(node) is not None for node in cone) for cone in cones]
    return sum(own) >= 2


def ancestry(value: ir.Value) -> set[ir.Node]:
    """Every node that the value rests on."""
    found: set[ir.Node] = set()
    pending = [value.producer()]
    while pending:
        node = pending.pop()
        if node is not None and node not in found:
            found.add(node)
            pending.extend(source.producer() for source in operands(node))
    return found
