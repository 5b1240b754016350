"""Finds the products to lower to int8, activation times constant inside the branches, and the part of each.

The patch projection and the head stay in float32: they are the first and the last layer, and a small share of the
arithmetic. If no node is named after a branch, all products are lowered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import onnx_ir as ir

from paraexport.graph.naming import is_in, is_kept
from paraexport.graph.query import const, is_op, is_real, operands

PART = re.compile(r"(?:^|/)(branches\.(\d+)(?:/layers\.\d+)?)/")
IN_BRANCHES = re.compile(r"(?:^|/)branches\.(?:\d+|\*)/")


def linears(graph: ir.Graph) -> list[ir.Node]:
    """The MatMuls [..., K] x constant [K, J] or [L, K, J] to lower, without those that are kept in float32."""
    products = [node for node in graph if is_linear(node)]
    inside = [node for node in products if IN_BRANCHES.search(node.name or "")]
    return [node for node in inside or products if not is_kept(node.name)]


def is_linear(node: ir.Node) -> bool:
    if not is_op(node, "MatMul"):
        return False
    activation, weight = operands(node)
    constant = const(weight)
    if constant is None or constant.ndim not in (2, 3) or constant.size == 0 or not is_real(constant):
        return False
    return const(activation) is None


def part_of(name: str | None) -> str | None:
    """The part of a node by its name: `branches.3/layers.1`, or `branches.3` outside of its layers, or None."""
    match = PART.search(name or "")
    return match[1] if match else None


def parts_of(graph: ir.Graph) -> list[str]:
    """Every part with a product to lower, in order."""
    parts = {part for node in linears(graph) if (part := part_of(node.name))}
    return sorted(parts, key=lambda part: [int(number) for number in re.findall(r"\d+", part)])


def holds(outer: str, part: str) -> bool:
    """Whether `part` is `outer` itself, or a layer of the branch `outer`."""
    return part == outer or part.startswith(f"{outer}/")


def is_within(name: str | None, parts: Iterable[str]) -> bool:
    return any(is_in(name, part) for part in parts)
