"""The few moves of which every rewrite is made, so that a pass reads as its algebra.

A pass decides first and edits last: whatever may be refused is found out before the graph is touched.
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


def const(value: ir.Value | None) -> NDArray[Any] | None:
    """The number that a value always has, or None."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def dims(value: ir.Value) -> Dims | None:
    """The shape of a value, or None where not even its rank is known."""
    if value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def operands(node: ir.Node) -> list[ir.Value]:
    """The inputs of a node that are given."""
    return [value for value in node.inputs if value is not None]


def result(node: ir.Node) -> ir.Value:
    """The only output of a node."""
    (value,) = node.outputs
    return value


def readers(value: ir.Value) -> list[ir.Node]:
    """The nodes that read a value, each once."""
    return list(dict.fromkeys(use.node for use in value.uses()))


def read_once(value: ir.Value) -> bool:
    """Whether exactly one input of one node reads the value, and the graph does not return it."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in op_types


def weight_of(node: ir.Node | None) -> NDArray[Any] | None:
    """The matrix [K, J] of a product activation @ constant, or None where the node is no such product."""
    if not is_op(node, "MatMul"):
        return None
    assert node is not None
    weight = const(node.inputs[1])
    return weight if weight is not None and weight.ndim == 2 and const(node.inputs[0]) is None else None


def bias_of(node: ir.Node | None) -> tuple[ir.Value, NDArray[Any]] | None:
    """(activation, constant) of an Add of a constant that is at most as large as the activation, or None."""
    return with_constant(node, "Add")


def bias_behind(node: ir.Node) -> tuple[ir.Node, NDArray[Any]] | None:
    """(Add, constant) where all that reads the result of the node is the Add of a constant, or None."""
    adding = readers(result(node))[0] if read_once(result(node)) else None
    added = bias_of(adding)
    return None if adding is None or added is None else (adding, added[1])


def scale_of(node: ir.Node | None) -> tuple[ir.Value, NDArray[Any]] | None:
    """(activation, constant) of a Mul by a constant that is at most as large as the activation, or None."""
    return with_constant(node, "Mul")


def with_constant(node: ir.Node | None, op_type: str) -> tuple[ir.Value, NDArray[Any]] | None:
    if not is_op(node, op_type):
        return None
    assert node is not None
    for activation, other in itertools.permutations(operands(node), 2):
        array = const(other)
        known = const(activation) is None and dims(activation) is not None
        if array is not None and known and dims(activation) == dims(result(node)):
            return activation, array
    return None


def attribute(node: ir.Node, name: str, default: object = None) -> object:
    found = node.attributes.get(name)
    return default if found is None else found.value


def add_constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """Register `array` as an initializer under `name`, or a name like it that is free."""
    free = fresh(name, graph.initializers)
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
    if old is not None and old.is_initializer() and not old.uses() and old.graph is not None and old.name:
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
    taken = names_in(graph)
    node = ir.node(op_type, inputs, attributes=dict(attributes or {}), version=version)
    output = result(node)
    output.name = node.name = fresh(name, taken)
    if (dtype := next(value.dtype for value in inputs if value is not None)) is not None:
        output.dtype = dtype
    output.shape = None if shape is None else ir.Shape(shape)
    graph.insert_before(before, node)
    return output


def substitute(old: ir.Value, new: ir.Value) -> None:
    """Let everybody who reads `old`, the graph's output included, read `new`; a graph output keeps its name."""
    if old.is_graph_output():
        name = old.name
        old.name, new.name = f"{name}.before", name
        new.shape, new.type = old.shape, old.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)


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
    graph = node.graph
    taken = {other.name for node in graph for other in node.outputs} | {*graph.initializers}
    value.name = fresh(name, taken | {other.name for other in graph.inputs})


def names_in(graph: ir.Graph) -> set[str | None]:
    """Every name of a node, a computed value or an initializer."""
    values = {value.name for node in graph for value in node.outputs}
    return values | {node.name for node in graph} | {*graph.initializers}


def clean(graph: ir.Graph) -> None:
    """Remove what nobody reads; a dead reader would make a value look shared."""
    model = ir.Model(graph, ir_version=10)
    common.RemoveUnusedNodesPass()(model)


def fresh(name: str, taken: Mapping[str, object] | set[str | None]) -> str:
    if name not in taken:
        return name
    return next(candidate for number in itertools.count(1) if (candidate := f"{name}_{number}") not in taken)
