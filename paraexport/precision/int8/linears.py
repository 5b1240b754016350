"""The products that int8 is for, activation times constant inside the branches, and which part each belongs to.

The patch embedding and the head stay as they are, first and last layer, a small share of all arithmetic. Where no name
tells of branches, every product is taken.
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
    """The MatMuls [..., K] x constant [K, J] or [L, K, J] to be lowered, those that are kept left out."""
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
    """`branches.3/layers.1`, `branches.3` for what is in no layer of it, or None."""
    found = PART.search(name or "")
    return found[1] if found else None


def parts_of(graph: ir.Graph) -> list[str]:
    """Every part with a product to be lowered, in order."""
    found = {part for node in linears(graph) if (part := part_of(node.name))}
    return sorted(found, key=lambda part: [int(number) for number in re.findall(r"\d+", part)])


def holds(outer: str, part: str) -> bool:
    """Whether a part is this one, or a layer of this branch."""
    return part == outer or part.startswith(f"{outer}/")


def is_within(name: str | None, parts: Iterable[str]) -> bool:
    return any(is_in(name, part) for part in parts)
