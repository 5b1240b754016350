"""Queries a graph: constants, inputs and outputs of a node, readers, and the biases and scales of products.

Graphs come from any exporter. So each function returns an answer or raises `Refused`.
"""

from __future__ import annotations

import itertools
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.refusal import Refused
from paraexport.graph.shapes import dims

SUBGRAPH = ir.Node("paraexport", "Subgraph", (), name="a subgraph")
"""Represents all nodes inside subgraphs, such as the branches of an If, that read a value of the outer graph."""


def const(value: ir.Value | None) -> NDArray[Any] | None:
    """The numbers of a constant value, or None.

    An initializer that is also an input of the graph is only a default, so it is not constant. Text gives None too.
    """
    if value is None or value.is_graph_input():
        return None
    try:
        tensor = ir.convenience.get_const_tensor(value)
    except ValueError:
        return None  # a Constant that does not hold exactly one tensor
    return None if tensor is None or tensor.dtype == ir.DataType.STRING else tensor.numpy()


def opset_of(graph: ir.Graph) -> int:
    """The version of the standard operators, whose domain has two names; 0 if the graph has none."""
    return graph.opset_imports.get("", graph.opset_imports.get("ai.onnx", 0))


def operands(node: ir.Node) -> list[ir.Value]:
    """The inputs of a node, without those that it leaves out."""
    return [value for value in node.inputs if value is not None]


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    """An input of a node by its number; None if the node leaves it out."""
    return node.inputs[index] if index < len(node.inputs) else None


def result(node: ir.Node) -> ir.Value:
    """The only output of a node.

    Raises:
        Refused: the node has several outputs, or none.
    """
    if len(node.outputs) != 1:
        raise Refused(f"{node.op_type} has {len(node.outputs)} outputs; expected 1")
    return node.outputs[0]


def main_result(node: ir.Node, reason: str) -> ir.Value:
    """The first output of a node, such as an Attention, whose other outputs are unused.

    Raises:
        Refused: another output is used. `reason` is the message.
    """
    if not node.outputs or any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        raise Refused(reason)
    return node.outputs[0]


def readers(value: ir.Value) -> list[ir.Node]:
    """The nodes that read a value, each once. `SUBGRAPH` represents all readers inside subgraphs."""
    home = value.graph
    nodes = (use.node if home is None or use.node.graph is home else SUBGRAPH for use in value.uses())
    return list(dict.fromkeys(nodes))


def only_reader(value: ir.Value) -> ir.Node | None:
    """The only node that reads the value, with one input; None if there are others, or the graph returns the value."""
    return readers(value)[0] if len(value.uses()) == 1 and not value.is_graph_output() else None


def read_once(value: ir.Value) -> bool:
    """Whether exactly one input of one node reads the value, and the graph does not return it."""
    return only_reader(value) not in {None, SUBGRAPH}


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in op_types


def weight_of(node: ir.Node | None) -> NDArray[Any] | None:
    """The matrix [K, J] of a product activation @ constant, or None if the node is no such product."""
    if node is None or not is_op(node, "MatMul") or len(operands(node)) != 2:
        return None
    weight = const(node.inputs[1])
    return weight if weight is not None and is_matrix(weight) and const(node.inputs[0]) is None else None


def is_matrix(array: NDArray[Any]) -> bool:
    """Whether the array is a matrix of real numbers. Integers do not count: their sums wrap around."""
    return array.ndim == 2 and array.size > 0 and is_real(array)


def is_real(array: NDArray[Any]) -> bool:
    return ir.DataType.from_numpy(array.dtype).is_floating_point()


def bias_of(node: ir.Node | None) -> tuple[ir.Value, NDArray[Any]] | None:
    """(activation, constant) of an Add, if the result has the shape of the activation; else None."""
    return with_constant(node, "Add")


def bias_behind(node: ir.Node) -> tuple[ir.Node, NDArray[Any]] | None:
    """(Add, constant) if the only reader of the node is the Add of a constant; else None."""
    adding = only_reader(result(node))
    added = bias_of(adding)
    return None if adding is None or added is None else (adding, added[1])


def scale_of(node: ir.Node | None) -> tuple[ir.Value, NDArray[Any]] | None:
    """(activation, constant) of a Mul, if the result has the shape of the activation; else None."""
    return with_constant(node, "Mul")


def with_constant(node: ir.Node | None, op_type: str) -> tuple[ir.Value, NDArray[Any]] | None:
    # Before opset 7, an attribute controlled broadcasting.
    if node is None or not is_op(node, op_type) or len(node.outputs) != 1 or node.attributes:
        return None
    for activation, constant in itertools.permutations(operands(node), 2):
        array = const(constant)
        is_activation = const(activation) is None and dims(activation) is not None
        if array is not None and is_activation and is_real(array) and dims(activation) == dims(result(node)):
            return activation, array
    return None
