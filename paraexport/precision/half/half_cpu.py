"""Half where a runtime has no kernels for it: the same weights, multiplied in float32.

A product in half adds up in float32 and rounds its result once. So y = f(x) in half is x cast to float32, f, and y cast
back. fp16 needs none of this to run: ONNX Runtime (1.32) and OpenVINO (2026.4) compute it in float32 by themselves, and
leave out most of the roundings.
"""

from __future__ import annotations

import onnx_ir as ir

from paraexport.graph.edit import clean
from paraexport.graph.free_names import fresh, names_in
from paraexport.graph.query import const, is_op, operands, result
from paraexport.graph.refusal import Applied
from paraexport.precision.half.span import SPANS, Kind
from paraexport.precision.half.typed import FLOAT, cast_node, insert_cast

HAVE_KERNELS = (
    "Cast", "Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
"""With bf16, in ONNX Runtime 1.32."""


def for_cpu(graph: ir.Graph, kind: Kind = "bf16") -> Applied:
    """Compute in float32 what is in half and has no kernel, and round each result to half; `times` counts the nodes."""
    applied, dtype = Applied("for_cpu"), SPANS[kind].dtype
    wide = Wide(graph)
    for node in list(graph):
        if not is_op(node, *HAVE_KERNELS) and gives(node, dtype):
            wide.read_float(node, dtype)
            wide.round_results(node, dtype)
            applied.times += 1
    return applied


def weights_only(graph: ir.Graph, kind: Kind = "bf16") -> Applied:
    """Compute in float32 what is in half, and round nothing but the weights; `times` counts the nodes.

    OpenVINO (2026.4) cuts digits off where it fuses a Cast to bf16 with what comes before, instead of rounding: about
    three times the error.
    """
    applied, dtype = Applied("weights_only"), SPANS[kind].dtype
    wide = Wide(graph)
    nodes = [node for node in graph if gives(node, dtype) and not is_op(node, "Cast")]
    for node in graph:
        source = operands(node)[0] if is_op(node, "Cast") else None
        if source is not None and const(source) is None and dtype in {source.dtype, result(node).dtype}:
            skip(node)
    for node in nodes:
        wide.read_float(node, dtype)
        for value in node.outputs:
            value.type = ir.TensorType(FLOAT)
    applied.times = len(nodes)
    clean(graph)
    return applied


def skip(cast: ir.Node) -> None:
    """Let those who read the Cast read what it casts; the one that gives the graph's output stays."""
    if not result(cast).is_graph_output():
        result(cast).replace_all_uses_with(operands(cast)[0])


def gives(node: ir.Node, dtype: ir.DataType) -> bool:
    return any(value.dtype == dtype for value in node.outputs)


class Wide:
    """Values of a graph in float32, each cast once."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph, self.taken = graph, names_in(graph)
        casts = [node for node in graph if is_op(node, "Cast") and result(node).dtype == FLOAT]
        self.known = {operands(node)[0]: result(node) for node in casts}

    def read_float(self, node: ir.Node, dtype: ir.DataType) -> None:
        """Let the node read float32 instead of `dtype`."""
        for index, value in enumerate(node.inputs):
            if value is None or value.dtype != dtype:
                continue
            if value not in self.known:
                self.known[value] = insert_cast(self.graph, value, FLOAT, self.free_name(f"{value.name}/fp32"), node)
            node.replace_input_with(index, self.known[value])

    def round_results(self, node: ir.Node, dtype: ir.DataType) -> None:
        """Let the node write float32; a value in `dtype` keeps name and readers, and is a Cast of that."""
        for value in node.outputs:
            if value.dtype == dtype and value.name:
                self.round_value(node, value, dtype)

    def round_value(self, node: ir.Node, value: ir.Value, dtype: ir.DataType) -> None:
        cast = cast_node(value, dtype, self.free_name(f"{value.name}/rounded"))
        rounded, name = result(cast), value.name
        value.replace_all_uses_with(rounded)
        cast.replace_input_with(0, value)
        # A new type, since a copy of the graph shares the old one.
        value.name, value.type, rounded.name = self.free_name(f"{name}/unrounded"), ir.TensorType(FLOAT), name
        self.graph.insert_after(node, cast)

    def free_name(self, name: str) -> str:
        free = fresh(name, self.taken)
        self.taken.add(free)
        return free
