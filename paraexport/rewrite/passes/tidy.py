"""Tidies a graph after the other passes: merges equal nodes, and removes moves that cancel out and unused nodes.

Identities: Transpose_p(Transpose_q(x)) = Transpose_{q∘p}(x). Reshape(Reshape(x)) = Reshape(x), because both keep the
order of the numbers. A Transpose or Reshape that changes nothing, and an Identity, is x. Equal nodes with equal inputs
become one node, and equal initializers one initializer, even if the model did not tie these weights.

The pass applies to standard operators, and those of ONNX Runtime. It merges no equal nodes if the graph draws random
numbers.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.attributes import attribute
from paraexport.graph.edit import can_stand_for, clean, substitute
from paraexport.graph.query import const, input_of, is_op, operands, result
from paraexport.graph.refusal import Applied
from paraexport.graph.shapes import is_known
from paraexport.graph.summary import RANDOM
from paraexport.rewrite.stacking.signatures import attribute_key, domain, why_unique

NAME = "tidy"
DETERMINISTIC = frozenset({"", "ai.onnx.ml", "com.microsoft"})
"""Domains whose operators give equal outputs for equal inputs, except those that draw random numbers."""
RESHAPES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
SAMPLED = 64
"""How many numbers of two initializers are compared first."""


def apply(graph: ir.Graph) -> Applied:
    """Simplify until nothing changes. Counts the removed nodes."""
    applied = Applied(NAME)
    before = len(graph)
    clean(graph)
    merge_initializers(graph)
    random = [node for node in graph if node.op_type in RANDOM]
    if random:
        applied.refuse(random[0], "it draws random numbers, so equal nodes are not merged")
    changed = True
    while changed:
        moved = [simplify(node) for node in list(graph)]
        merged = not random and merge_nodes(graph)
        clean(graph)
        changed = any(moved) or merged
    applied.times = before - len(graph)
    return applied


def merge_initializers(graph: ir.Graph) -> None:
    """Make the readers of equal initializers read the first of them. Inputs and outputs of the graph stay."""
    kinds: dict[Hashable, list[ir.Value]] = {}
    for name, value in list(graph.initializers.items()):
        array = const(value)
        if array is None or value.is_graph_output():
            continue
        alike = kinds.setdefault((value.dtype, array.shape, sample(array)), [])
        kept = next((candidate for candidate in alike if have_same_bytes(const(candidate), array)), None)
        if kept is None:
            alike.append(value)
        else:
            value.replace_all_uses_with(kept)
            graph.initializers.pop(name)


def merge_nodes(graph: ir.Graph) -> bool:
    """Make the readers of a node read an earlier equal node. Returns whether there was one."""
    first: dict[Hashable, ir.Node] = {}
    merged = False
    for node in list(graph):
        if domain(node) not in DETERMINISTIC or why_unique(node) is not None:
            continue
        attributes = tuple(sorted((name, attribute_key(given)) for name, given in node.attributes.items()))
        # An output without a name is left out.
        outputs = tuple(bool(value.name) for value in node.outputs)
        kept = first.setdefault((domain(node), node.op_type, attributes, tuple(node.inputs), outputs), node)
        if kept is not node and all(map(can_stand_for, kept.outputs, node.outputs)):
            for old, new in zip(node.outputs, kept.outputs, strict=True):
                substitute(old, new)
            graph.remove(node, safe=True)
            merged = True
    return merged


def sample(array: NDArray[Any]) -> bytes:
    """A few numbers of an array. Most weights differ in them, so the rest of a large file is not read."""
    return array.reshape(-1)[:: max(1, array.size // SAMPLED)].tobytes()


def have_same_bytes(left: NDArray[Any] | None, right: NDArray[Any]) -> bool:
    """Whether two arrays of one type and shape have equal bytes: -0 differs from 0, and NaN equals NaN."""
    if left is None:
        return False
    first, second = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (left, right))
    return np.array_equal(first, second)


def simplify(node: ir.Node) -> bool:
    """Simplify one node that only moves numbers. Returns whether something changed."""
    if not is_op(node, "Identity", "Reshape", "Transpose") or not is_wanted(result(node)):
        return False
    skipped = is_op(node, "Transpose") and skip_transpose(node)
    skipped = skipped or (is_op(node, "Reshape") and skip_reshape(node))
    source = operands(node)[0]
    if moves_nothing(node) and can_stand_for(source, result(node)):
        substitute(result(node), source)
        return True
    return skipped


def skip_transpose(node: ir.Node) -> bool:
    """Make a Transpose read the input of the Transpose before it. Returns whether there was one."""
    inner = operands(node)[0].producer()
    if inner is None or not is_op(inner, "Transpose"):
        return False
    outer_order, inner_order = order_of(node), order_of(inner)
    if outer_order is None or inner_order is None:
        return False
    node.replace_input_with(0, operands(inner)[0])
    node.attributes["perm"] = ir.AttrInt64s("perm", [inner_order[axis] for axis in outer_order])
    return True


def skip_reshape(node: ir.Node) -> bool:
    """Make a Reshape read the input of the reshaping node before it. Returns whether there was one.

    A 0 in the target would then copy a size of another shape, so such a Reshape stays.
    """
    inner = operands(node)[0].producer()
    target = const(input_of(node, 1))
    if inner is None or not is_op(inner, *RESHAPES) or target is None or not target.all():
        return False
    node.replace_input_with(0, operands(inner)[0])
    return True


def moves_nothing(node: ir.Node) -> bool:
    """Whether the result equals the input. One unknown size must be equal if all other sizes are."""
    if is_op(node, "Transpose"):
        order = order_of(node)
        return order is not None and list(order) == sorted(order)
    if is_op(node, "Identity"):
        return True
    before, after = operands(node)[0].shape, result(node).shape
    if before is None or after is None or len(before) != len(after) or 0 in [*before, *after]:
        return False
    pairs = list(zip(before, after, strict=True))
    uncertain = [pair for pair in pairs if pair[0] != pair[1] or not is_known(pair[0])]
    return not uncertain or (len(uncertain) == 1 and not all(isinstance(size, int) for size in uncertain[0]))


def order_of(node: ir.Node) -> Sequence[int] | None:
    order = attribute(node, "perm")
    if isinstance(order, Sequence):
        return [int(axis) for axis in order]
    shape = operands(node)[0].shape
    return None if shape is None else list(reversed(range(len(shape))))


def is_wanted(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()
