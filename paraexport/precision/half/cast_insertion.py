"""Puts selected nodes of a float32 graph in half: their constants, their values, and Casts at the borders."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from paraexport.graph.edit import add_constant
from paraexport.graph.free_names import fresh, names_in
from paraexport.graph.query import const, is_op, result
from paraexport.precision.half.formats import HALF_FORMATS, HalfType

FLOAT = ir.DataType.FLOAT
SUFFIXES = {FLOAT: "fp32", **{half_format.dtype: half_type for half_type, half_format in HALF_FORMATS.items()}}


class CastInserter:
    """Types the nodes `half` in half; products in `stored` compute in float32, and store only their weight in half.

    A value keeps its name. Its copy in another type is called `name/fp32`, `name/fp16` or `name/bf16`.
    """

    def __init__(
        self, graph: ir.Graph, half_type: HalfType, half: Iterable[ir.Node], stored: Iterable[ir.Node]
    ) -> None:
        self.graph, self.dtype = graph, HALF_FORMATS[half_type].dtype
        self.half, self.stored = set(half), set(stored)
        self.taken = names_in(graph)
        self.known: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        """One constant or Cast for each value and type, for all nodes that read it."""

    def insert(self) -> None:
        """Compute the nodes in half, and everything else in float32."""
        nodes = list(self.graph)
        for node in nodes:
            if node in self.half:
                self.write_outputs(node)
        for node in nodes:
            if node in self.stored:
                self.store_weight(node)
            wanted = self.dtype if node in self.half else FLOAT
            for index, value in enumerate(node.inputs):
                if value is not None and value.dtype in {FLOAT, self.dtype} - {wanted}:
                    node.replace_input_with(index, self.as_type(value, wanted, node))

    def write_outputs(self, node: ir.Node) -> None:
        for value in node.outputs:
            value.type = ir.TensorType(self.dtype)  # a copy of the graph shares the old one
            if value.is_graph_output():
                # The Cast to float32 takes over the name, since users of the model ask for the output by name.
                name = value.name
                value.name = self.free_name(value, self.dtype)
                cast = self.as_type(value, FLOAT, None)
                cast.name, cast.shape = name, value.shape
                index = list(self.graph.outputs).index(value)
                self.graph.outputs[index] = cast
        if is_op(node, "Attention"):
            node.attributes["softmax_precision"] = ir.AttrInt64("softmax_precision", FLOAT)

    def store_weight(self, node: ir.Node) -> None:
        weight = node.inputs[1]
        assert weight is not None
        stored = self.as_type(weight, self.dtype, node)
        if (stored, FLOAT) not in self.known:
            self.known[stored, FLOAT] = self.cast(stored, FLOAT, node)
        node.replace_input_with(1, self.known[stored, FLOAT])

    def as_type(self, value: ir.Value, dtype: ir.DataType, reader: ir.Node | None) -> ir.Value:
        """The value in another type; `reader` is the first node that needs it."""
        if (value, dtype) not in self.known:
            converted = self.constant(value, dtype) if const(value) is not None else self.cast(value, dtype, reader)
            self.known[value, dtype] = converted
        return self.known[value, dtype]

    def constant(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """The constant in another type: changed in place if nothing reads it in its own type, else a second one."""
        array = const(value)
        assert array is not None
        rounded = array.astype(dtype.numpy())
        if not value.is_initializer() or not all(self.wants_half(use.node, use.idx) for use in value.uses()):
            return add_constant(self.graph, self.free_name(value, dtype), rounded)
        value.const_value, value.type = ir.tensor(rounded, dtype, name=value.name), ir.TensorType(dtype)
        return value

    def wants_half(self, node: ir.Node, index: int) -> bool:
        return node in self.half or (node in self.stored and index == 1)

    def cast(self, value: ir.Value, dtype: ir.DataType, reader: ir.Node | None) -> ir.Value:
        return insert_cast(self.graph, value, dtype, self.free_name(value, dtype), reader)

    def free_name(self, value: ir.Value, dtype: ir.DataType) -> str:
        name = fresh(f"{value.name}/{SUFFIXES[dtype]}", self.taken)
        self.taken.add(name)
        return name


def cast_node(value: ir.Value, dtype: ir.DataType, name: str) -> ir.Node:
    """A Cast of `value` that is in no graph yet. The node and its output are both called `name`."""
    node = ir.node("Cast", [value], {"to": dtype}, name=name)
    cast = result(node)
    cast.name, cast.dtype, cast.shape = name, dtype, value.shape
    return node


def insert_cast(graph: ir.Graph, value: ir.Value, dtype: ir.DataType, name: str, reader: ir.Node | None) -> ir.Value:
    """The value in another type, cast right after the node that computes it.

    An input of the graph or a constant has no such node: its Cast goes before `reader`, the first node that needs it.
    """
    node, producer = cast_node(value, dtype, name), value.producer()
    if producer is not None:
        graph.insert_after(producer, node)
    else:
        assert reader is not None
        graph.insert_before(reader, node)
    return result(node)
