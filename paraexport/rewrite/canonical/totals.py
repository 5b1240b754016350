"""Brings sums over branches to the form that the passes read: stack([y_1, …]).sum() = Sum(y_1, …), and 0 + y = y.

A loop that starts from zeros, `z = zeros_like(x); z = z + branch(x)`, exports an Add of expanded zeros.
"""

from __future__ import annotations

import onnx_ir as ir

from paraexport.graph.attributes import attribute
from paraexport.graph.edit import clean, substitute
from paraexport.graph.query import const, is_op, operands, result
from paraexport.graph.refusal import Applied
from paraexport.graph.shapes import have_equal_shapes
from paraexport.rewrite.stacking import gathered_sums

NAME = "totals"


def apply(graph: ir.Graph) -> Applied:
    """Counts the sums that changed."""
    applied = Applied(NAME, gathered_sums.apply(graph))
    for node in tuple(graph):
        if is_op(node, "Add") and (term := nonzero_term(node)) is not None:
            output = result(node)
            if output.is_graph_output():
                continue
            substitute(output, term)
            applied.times += 1
    clean(graph)
    return applied


def nonzero_term(adding: ir.Node) -> ir.Value | None:
    """y of 0 + y, if y has the shape of the sum; else None."""
    if len(operands(adding)) != 2 or adding.attributes:
        return None
    for zeros, term in (operands(adding), operands(adding)[::-1]):
        if is_zero(zeros) and const(term) is None and have_equal_shapes(term, result(adding)):
            return term
    return None


def is_zero(value: ir.Value) -> bool:
    """Whether a value holds only zeros, perhaps expanded or reshaped."""
    node = value.producer()
    while node is not None and is_op(node, "Expand", "Identity", "Reshape"):
        value = operands(node)[0]
        node = value.producer()
    array = const(value)
    if array is None and node is not None and is_op(node, "ConstantOfShape"):
        filled = attribute(node, "value")
        return not isinstance(filled, ir.TensorProtocol) or not filled.numpy().any()
    return array is not None and not array.any()
