"""The few moves of which every rewrite is made, so that a pass reads as its algebra.

A pass decides first and edits last: whatever may be refused is found out before the graph is touched. Graphs come from
any exporter: a node may have several outputs, leave out inputs, and be read from inside a subgraph. What a pass asks
for and the graph does not have is `Refused`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from paraexport.graph.free_names import claim, forget

Dims = tuple[int | None, ...]
"""A shape; None for an axis whose length is not known, such as the batch."""


class Refused(Exception):
    """A rule does not apply here; the message is the reason, for people."""


@dataclass
class Applied:
    """What one pass did."""

    name: str
    times: int = 0
    refusals: list[str] = field(default_factory=list)
    """`node: reason`, one line for each place where the rule nearly applied."""

    def refuse(self, node: ir.Node, reason: object) -> None:
        self.refusals.append(f"{node.name or node.op_type}: {reason}")


SUBGRAPH = ir.Node("paraexport", "Subgraph", (), name="a subgraph")
"""Stands for a node inside a subgraph, such as a branch of If, that reads a value of the graph around it."""


def const(value: ir.Value | None) -> NDArray[Any] | None:
    """The numbers that a value always has, or None.

    An initializer that is an input of the graph as well is only a default, and text is no number.
    """
    if value is None or value.is_graph_input():
        return None
    try:
        tensor = ir.convenience.get_const_tensor(value)
    except ValueError:
        return None  # a Constant that holds something else than one tensor
    return None if tensor is None or tensor.dtype == ir.DataType.STRING else tensor.numpy()


def opset_of(graph: ir.Graph) -> int:
    """The version of the standard operators, which have two names; 0 where the graph does not say."""
    return graph.opset_imports.get("", graph.opset_imports.get("ai.onnx", 0))


def dims(value: ir.Value) -> Dims | None:
    """The shape of a value, or None where not even its rank is known."""
    if value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def operands(node: ir.Node) -> list[ir.Value]:
    """The inputs of a node that are given."""
    return [value for value in node.inputs if value is not None]


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    """An input of a node by its number; None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def result(node: ir.Node) -> ir.Value:
    """The only output of a node.

    Raises:
        Refused: it has several, or none.
    """
    if len(node.outputs) != 1:
        raise Refused(f"{node.op_type} has {len(node.outputs)} outputs")
    return node.outputs[0]


def main_result(node: ir.Node, otherwise: str) -> ir.Value:
    """The first output of a node, such as an Attention, whose other outputs nobody reads.

    Raises:
        Refused: somebody does, for the reason `otherwise`.
    """
    if not node.outputs or any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        raise Refused(otherwise)
    return node.outputs[0]


def readers(value: ir.Value) -> list[ir.Node]:
    """The nodes that read a value, each once; `SUBGRAPH` stands for those inside subgraphs."""
    home = value.graph
    nodes = (use.node if home is None or use.node.graph is home else SUBGRAPH for use in value.uses())
    return list(dict.fromkeys(nodes))


def only_reader(value: ir.Value) -> ir.Node | None:
    """The node that alone reads the value, with one input; None where others do, or the graph returns it."""
    return readers(value)[0] if len(value.uses()) == 1 and not value.is_graph_output() else None


def read_once(value: ir.Value) -> bool:
    """Whether exactly one input of one node reads the value, and the graph does not return it."""
    return only_reader(value) not in {None, SUBGRAPH}


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in op_types


def weight_of(node: ir.Node | None) -> NDArray[Any] | None:
    """The matrix [K, J] of a product activation @ constant, or None where the node is no such product."""
    if node is None or not is_op(node, "MatMul") or len(operands(node)) != 2:
        return None
    weight = const(node.inputs[1])
    return weight if weight is not None and is_matrix(weight) and const(node.inputs[0]) is None else None


def is_matrix(array: NDArray[Any]) -> bool:
    """Whether it holds real numbers, in rows and columns. Sums of integers wrap around, so their algebra is another."""
    return array.ndim == 2 and array.size > 0 and is_real(array)


def is_real(array: NDArray[Any]) -> bool:
    return ir.DataType.from_numpy(array.dtype).is_floating_point()


def bias_of(node: ir.Node | None) -> tuple[ir.Value, NDArray[Any]] | None:
    """(activation, constant) of an Add of a constant that is at most as large as the activation, or None."""
    return with_constant(node, "Add")


def bias_behind(node: ir.Node) -> tuple[ir.Node, NDArray[Any]] | None:
    """(Add, constant) where all that reads the result of the node is the Add of a constant, or None."""
    adding = only_reader(result(node))
    added = bias_of(adding)
    return None if adding is None or added is None else (adding, added[1])


def scale_of(node: ir.Node | None) -> tuple[ir.Value, NDArray[Any]] | None:
    """(activation, constant) of a Mul by a constant that is at most as large as the activation, or None."""
    return with_constant(node, "Mul")


def with_constant(node: ir.Node | None, op_type: str) -> tuple[ir.Value, NDArray[Any]] | None:
    # Before opset 7 an attribute said how to broadcast.
    if node is None or not is_op(node, op_type) or len(node.outputs) != 1 or node.attributes:
        return None
    for activation, other in itertools.permutations(operands(node), 2):
        array = const(other)
        known = const(activation) is None and dims(activation) is not None
        if array is not None and known and is_real(array) and dims(activation) == dims(result(node)):
            return activation, array
    return None


def add_constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """Register `array` as an initializer under `name`, or a name like it that is free."""
    free = claim(graph, name)
    value = ir.Value(
        name=free,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        const_value=ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=free),
    )
    graph.register_initializer(value)
    return value


def replace_constant(node: ir.Node, index: int, new: ir.Value) -> None:
    """Let input `index` be the constant `new`, which takes over the name of the old one if that has no other reader."""
    old = node.inputs[index]
    node.replace_input_with(index, new)
    if old is None or old.uses() or old.is_graph_input() or old.is_graph_output():
        return
    if old.is_initializer() and old.graph is not None and old.name:
        del old.graph.initializers[old.name]
        new.name = old.name


def add_node(
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, int | float | str | Sequence[int]] | None = None,
    *,
    name: str,
    shape: Sequence[int | str | None] | None = None,
    version: int | None = None,
) -> ir.Value:
    """Insert a node before `before`, with one output of the same dtype as its first input; both are called `name`.

    `shape` is that of the output, with None or a name for what is not known; never -1.
    """
    graph = before.graph
    assert graph is not None
    node = ir.node(op_type, inputs, attributes=dict(attributes or {}), version=version)
    output = result(node)
    output.name = node.name = claim(graph, name)
    if (dtype := next(value.dtype for value in inputs if value is not None)) is not None:
        output.dtype = dtype
    output.shape = None if shape is None else ir.Shape(shape)
    graph.insert_before(before, node)
    return output


def substitute(old: ir.Value, new: ir.Value) -> None:
    """Let everybody who reads `old`, the graph's output included, read `new`; a graph output keeps its name."""
    if old.is_graph_output():
        producer = old.producer()
        if producer is not None and not can_be_output(new):
            new = add_node(producer, "Identity", [new], name=f"{old.name}/Identity")
        name = old.name
        old.name, new.name = f"{name}.before", name
        new.shape, new.type = old.shape, old.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def can_be_output(value: ir.Value) -> bool:
    """Whether the graph may return this value under another name: one that a node gives, and that is no output yet."""
    return value.producer() is not None and not value.is_graph_output()


def can_stand_for(new: ir.Value, old: ir.Value) -> bool:
    """Whether `new` may take the place of `old` without a node more."""
    return not old.is_graph_output() or can_be_output(new)


def take_name(new: ir.Value, old: ir.Value) -> None:
    """Call `new` what `old` is called, since it is the same number now; `old` is about to go or has changed."""
    if new.is_graph_output() or old.is_graph_output():
        return
    name = old.name
    old.name, new.name = f"{name}.before", name


def rename(value: ir.Value, name: str) -> None:
    """Call a value, unless the graph returns it, `name` or a name like it that is free."""
    node = value.producer()
    if node is None or node.graph is None or value.is_graph_output():
        return
    value.name = claim(node.graph, name)


def clean(graph: ir.Graph) -> None:
    """Remove what nobody reads; a dead reader would make a value look shared."""
    forget(graph)
    model = ir.Model(graph, ir_version=10)
    common.RemoveUnusedNodesPass()(model)
