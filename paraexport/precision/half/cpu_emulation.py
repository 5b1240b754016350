"""Emulates half precision on a CPU: the same weights and roundings, multiplied in float32.

A product in half adds up in float32 and rounds its result once. So for y = f(x) in half, cast x to float32, compute f,
and cast y back. fp16 runs without this, but with few roundings: ONNX Runtime (1.32) and OpenVINO (2026.4) compute it in
float32 and leave out most of them.
"""

from __future__ import annotations

import onnx_ir as ir

from paraexport.graph.edit import clean
from paraexport.graph.free_names import fresh, names_in
from paraexport.graph.query import const, is_op, operands, result
from paraexport.graph.refusal import Applied
from paraexport.precision.half.cast_insertion import FLOAT, cast_node, insert_cast
from paraexport.precision.half.formats import HALF_FORMATS, HalfType

HAVE_KERNELS = (
    "Cast", "Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
"""The operators that ONNX Runtime 1.32 can run in bf16 on a CPU."""


def emulate_rounding(graph: ir.Graph, half_type: HalfType = "bf16") -> Applied:
    """Compute nodes in half that have no kernel in float32, and round each result; `times` counts the nodes."""
    applied, dtype = Applied("for_cpu"), HALF_FORMATS[half_type].dtype
    values = Float32Values(graph)
    for node in list(graph):
        if not is_op(node, *HAVE_KERNELS) and writes(node, dtype):
            values.read_float(node, dtype)
            values.round_results(node, dtype)
            applied.times += 1
    return applied


def keep_only_weights(graph: ir.Graph, half_type: HalfType = "bf16") -> Applied:
    """Compute all nodes in half in float32, and round only the weights; `times` counts the nodes.

    OpenVINO (2026.4) needs this. Where it fuses a Cast to bf16 with the node before, it truncates digits instead of
    rounding. That makes the error about three times as large.
    """
    applied, dtype = Applied("weights_only"), HALF_FORMATS[half_type].dtype
    values = Float32Values(graph)
    nodes = [node for node in graph if writes(node, dtype) and not is_op(node, "Cast")]
    for node in graph:
        source = operands(node)[0] if is_op(node, "Cast") else None
        if source is not None and const(source) is None and dtype in {source.dtype, result(node).dtype}:
            bypass_cast(node)
    for node in nodes:
        values.read_float(node, dtype)
        for value in node.outputs:
            value.type = ir.TensorType(FLOAT)
    applied.times = len(nodes)
    clean(graph)
    return applied


def bypass_cast(cast: ir.Node) -> None:
    """Make readers of the Cast read its input instead. A Cast that writes the graph's output stays."""
    if not result(cast).is_graph_output():
        result(cast).replace_all_uses_with(operands(cast)[0])


def writes(node: ir.Node, dtype: ir.DataType) -> bool:
    return any(value.dtype == dtype for value in node.outputs)


class Float32Values:
    """The values of a graph in float32; each value is cast at most once."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph, self.taken = graph, names_in(graph)
        casts = [node for node in graph if is_op(node, "Cast") and result(node).dtype == FLOAT]
        self.known = {operands(node)[0]: result(node) for node in casts}

    def read_float(self, node: ir.Node, dtype: ir.DataType) -> None:
        """Make the node read float32 instead of `dtype`."""
        for index, value in enumerate(node.inputs):
            if value is None or value.dtype != dtype:
                continue
            if value not in self.known:
                self.known[value] = insert_cast(self.graph, value, FLOAT, self.free_name(f"{value.name}/fp32"), node)
            node.replace_input_with(index, self.known[value])

    def round_results(self, node: ir.Node, dtype: ir.DataType) -> None:
        """Make the node write float32. A value in `dtype` keeps its name and readers, and becomes a Cast of that."""
        for value in node.outputs:
            if value.dtype == dtype and value.name:
                self.round_value(node, value, dtype)

    def round_value(self, node: ir.Node, value: ir.Value, dtype: ir.DataType) -> None:
        cast = cast_node(value, dtype, self.free_name(f"{value.name}/rounded"))
        rounded, name = result(cast), value.name
        value.replace_all_uses_with(rounded)
        cast.replace_input_with(0, value)
        # Set a new type object: a copy of the graph shares the old one.
        value.name, value.type, rounded.name = self.free_name(f"{name}/unrounded"), ir.TensorType(FLOAT), name
        self.graph.insert_after(node, cast)

    def free_name(self, name: str) -> str:
        free = fresh(name, self.taken)
        self.taken.add(free)
        return free
