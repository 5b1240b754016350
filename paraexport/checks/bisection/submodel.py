"""Makes a model of a part of a graph, with one input and one output, [batch, …] to [batch, …].

Targets only open models with one float32 input and one float32 output, whose first axis is the batch. They may also
look up shapes by the name of the input. But a part reads and gives several values: some are in half precision, some
have the branches as their first axis. So the values are flattened and put side by side as columns, in the order of
memory. The model takes them apart again, and casts back to half precision. All of this is exact.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.checks.bisection.cut import Part
from paraexport.checks.bisection.values import Array, Form
from paraexport.graph.edit import add_constant, clean
from paraexport.graph.query import result
from paraexport.model.spec import INPUT

ANSWER = "answer"
FLOAT = ir.DataType.FLOAT


def submodel(model: ir.Model, part: Part, forms: Mapping[str, Form]) -> ir.Model:
    """A new model of the part. Its nodes keep their names."""
    copy = model.clone()
    graph = copy.graph
    values = {value.name: value for value in (*graph.inputs, *(value for node in graph for value in node.outputs))}
    graph.outputs.clear()
    packed_inputs = port(INPUT, part.inputs, forms)
    opening, closing = Chain(graph), Chain(graph)
    for name, (start, end) in zip(part.inputs, spans(part.inputs, forms), strict=True):
        old, form = values[name], forms[name]
        piece = opening.add("Slice", packed_inputs, *opening.integers(name, [start], [end], [1]))
        piece = opening.add("Reshape", piece, *opening.integers(name, form.free))
        piece = opening.cast(piece, FLOAT, form.dtype)
        for use in [*old.uses()]:
            use.node.replace_input_with(use.idx, piece)
    flat = []
    for name in part.outputs:
        wide = closing.cast(values[name], forms[name].dtype, FLOAT)
        flat.append(closing.add("Reshape", wide, *closing.integers(name, [-1, forms[name].columns])))
    answer = closing.add("Concat", *flat, axis=1)
    named = port(ANSWER, part.outputs, forms)
    answer.name, answer.shape, answer.type = named.name, named.shape, named.type
    graph.insert_before(graph[0], opening.nodes)
    graph.extend(closing.nodes)
    graph.inputs[:] = [packed_inputs]
    graph.outputs[:] = [answer]
    clean(graph)
    return copy


class Chain:
    """New nodes for a graph, which are not in it yet."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.nodes: list[ir.Node] = []

    def add(self, op_type: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        node = ir.node(op_type, inputs, attributes=attributes)
        self.nodes.append(node)
        return result(node)

    def cast(self, value: ir.Value, old: ir.DataType, new: ir.DataType) -> ir.Value:
        return value if old == new else self.add("Cast", value, to=int(new))

    def integers(self, name: str, *lists: Sequence[int]) -> list[ir.Value]:
        return [add_constant(self.graph, f"{name}/cut", np.asarray(numbers, np.int64)) for numbers in lists]


def port(port_name: str, values: Sequence[str], forms: Mapping[str, Form]) -> ir.Value:
    """An input or output for these values side by side, [batch, columns]."""
    shape = ir.Shape(["batch", sum(forms[name].columns for name in values)])
    return ir.Value(name=port_name, shape=shape, type=ir.TensorType(FLOAT))


def spans(values: Sequence[str], forms: Mapping[str, Form]) -> list[tuple[int, int]]:
    """(first column, last column + 1) of each value."""
    return [*itertools.pairwise(itertools.accumulate((forms[name].columns for name in values), initial=0))]


def pack(values: Mapping[str, Array], names: Sequence[str], batch: int) -> Array:
    """The values side by side, [batch, columns]."""
    return np.concatenate([values[name].reshape(batch, -1) for name in names], axis=1)


def unpack(answer: Array, names: Sequence[str], forms: Mapping[str, Form]) -> dict[str, NDArray[np.float32]]:
    """Undo `pack`: each value in its own shape."""
    return {
        name: answer[:, start:end].reshape(forms[name].free)
        for name, (start, end) in zip(names, spans(names, forms), strict=True)
    }
