"""Replaces a ReduceSum over stacked values by a Sum: stack([y_1, …, y_L], axis).sum(axis) = y_1 + … + y_L.

Exporters write `stack` as an Unsqueeze of each value and a Concat along the new axis.
"""

from __future__ import annotations

import onnx_ir as ir

from paraexport.graph.attributes import axis_of, int_of
from paraexport.graph.edit import add_node, substitute, take_name
from paraexport.graph.naming import beside
from paraexport.graph.query import const, input_of, is_op, operands, result
from paraexport.graph.shapes import dims, require_sizes


def apply(graph: ir.Graph) -> int:
    """Rewrite every such ReduceSum, and return the number of them.

    Raises:
        Refused: an attribute has the wrong type.
    """
    gathered = [(node, terms) for node in graph if (terms := stacked_terms(node))]
    for node, terms in gathered:
        name = beside(node.name or "", "Sum")
        new = add_node(node, "Sum", terms, name=name, shape=require_sizes(result(node)))
        take_name(new, result(node))
        substitute(result(node), new)
    return len(gathered)


def stacked_terms(node: ir.Node) -> list[ir.Value]:
    """The values that a ReduceSum adds up, if it sums exactly the axis along which they were stacked; else none."""
    if not is_op(node, "ReduceSum"):
        return []
    concat, whole = operands(node)[0].producer(), dims(result(node))
    if concat is None or not is_op(concat, "Concat") or int_of(node, "keepdims", 1) or whole is None:
        return []
    axis = axis_of(concat, len(whole) + 1)
    pieces = [value.producer() for value in operands(concat)]
    if not is_only_axis(input_of(node, 1), axis, len(whole)):
        return []
    terms: list[ir.Value] = []
    for piece in pieces:
        if piece is None or not is_op(piece, "Unsqueeze") or not is_only_axis(input_of(piece, 1), axis, len(whole)):
            return []
        terms.append(operands(piece)[0])
    return terms if all(dims(term) == whole for term in terms) and len(terms) > 1 else []


def is_only_axis(axes: ir.Value | None, axis: int, rank: int) -> bool:
    """Whether a constant holds exactly this axis of a value with `rank` + 1 axes."""
    array = const(axes)
    return array is not None and array.size == 1 and int(array.ravel()[0]) % (rank + 1) == axis
