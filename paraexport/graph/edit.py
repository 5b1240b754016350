"""The few changes to a graph that every rewrite is built from. With them, a pass reads like its algebra.

A pass decides first and edits last: whatever may be refused is found out before the graph is touched. Graphs come from
any exporter: a node may have several outputs, leave out inputs, and be read from inside a subgraph. What a pass asks
for and the graph does not have is `Refused`.
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
