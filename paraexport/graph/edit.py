"""Edits a graph: adds constants and nodes, replaces values, removes unused nodes. All rewrites use these functions.

A pass decides first and edits last: it makes all checks that can refuse before it changes the graph. Graphs come from
any exporter. A node may have several outputs or leave out inputs, and a subgraph may read its result. A function
raises `Refused` if the graph lacks something that it needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from paraexport.graph.free_names import claim, forget
from paraexport.graph.query import result


def add_constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """Register `array` as an initializer under `name`, or under a similar name that is free."""
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
    """Make input `index` the constant `new`. It takes the name of the old constant if nothing else reads that one."""
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
    """Insert a node before `before` and return its only output. Both are called `name`, or a similar free name.

    The output has the dtype of the first input. In `shape`, an unknown size is None or a name, never -1.
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
    """Make all readers of `old` read `new`, the output of the graph included. A graph output keeps its name."""
    if old.is_graph_output():
        producer = old.producer()
        if producer is not None and not can_be_output(new):
            new = add_node(producer, "Identity", [new], name=f"{old.name}/Identity")
        name = old.name
        old.name, new.name = f"{name}.before", name
        new.shape, new.type = old.shape, old.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def can_be_output(value: ir.Value) -> bool:
    """Whether the graph may return this value under another name: a node computes it, and it is not an output yet."""
    return value.producer() is not None and not value.is_graph_output()


def can_stand_for(new: ir.Value, old: ir.Value) -> bool:
    """Whether `new` can replace `old` without an extra node."""
    return not old.is_graph_output() or can_be_output(new)


def take_name(new: ir.Value, old: ir.Value) -> None:
    """Give `new` the name of `old`, because it now holds the numbers of `old`."""
    if new.is_graph_output() or old.is_graph_output():
        return
    name = old.name
    old.name, new.name = f"{name}.before", name


def rename(value: ir.Value, name: str) -> None:
    """Rename a value to `name`, or to a similar name that is free. An output of the graph keeps its name."""
    node = value.producer()
    if node is None or node.graph is None or value.is_graph_output():
        return
    value.name = claim(node.graph, name)


def clean(graph: ir.Graph) -> None:
    """Remove unused nodes: a value with an unused reader would look shared."""
    forget(graph)
    model = ir.Model(graph, ir_version=10)
    common.RemoveUnusedNodesPass()(model)
