"""Which nodes of a float32 graph may be computed in half."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set

import numpy as np
import onnx_ir as ir
from onnx import defs

from paraexport.graph.attributes import float_of
from paraexport.graph.query import bias_of, const, is_op, operands, readers, scale_of
from paraexport.graph.refusal import Applied
from paraexport.graph.shapes import dims
from paraexport.precision.half.span import SPANS, Kind, misfit

PRODUCTS = ("Attention", "Conv", "Gemm", "MatMul")
ACTIVATIONS = ("Gelu", "Relu")
VIEWS = (
    "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
)  # fmt: skip
"""These move numbers and change none."""


def chosen(graph: ir.Graph, kind: Kind, largest: Mapping[str, float], applied: Applied) -> list[ir.Node]:
    """The nodes to be put in half, in the order of the graph; `applied` is told which ones do not fit.

    A product is, unless it is at an end; its bias, a scale and an activation are where what they read is; a view is
    where all that it reads is, or all of its readers are, so that casts are few and of what is small.
    """
    found: set[ir.Node] = set()
    left_out = ends(graph)
    for node in graph:
        if node in left_out:
            continue
        if is_product(node) or (is_pointwise(node) and comes_in_half(node, found)):
            if reasons := misfits(node, kind, largest):
                applied.refuse(node, "; ".join(reasons))
            else:
                found.add(node)
        elif is_view(node) and comes_in_half(node, found):
            found.add(node)
    for node in reversed(graph):
        goes_on_in_half = all(reader in found for value in node.outputs for reader in readers(value))
        if is_view(node) and goes_on_in_half and not returned(node) and not misfits(node, kind, largest):
            found.add(node)
    return [node for node in graph if node in found]


def ends(graph: ir.Graph) -> list[ir.Node]:
    """The product that no other comes before, and the one that none follows, each if alone: the patches and the head.

    What they round goes into every branch, or straight into the logits, and is not averaged over L branches. They are a
    small part of the arithmetic, about 1 / 12LM each.
    """
    return [*alone(graph, towards_end=True), *alone(reversed(graph), towards_end=False)]


def alone(nodes: Iterable[ir.Node], *, towards_end: bool) -> list[ir.Node]:
    """The product with no other before it on any way, in this order of the nodes, if there is exactly one."""
    reached: set[ir.Node] = set()
    first: list[ir.Node] = []
    for node in nodes:
        values = operands(node) if towards_end else node.outputs
        near = (
            [value.producer() for value in values]
            if towards_end
            else [one for value in values for one in readers(value)]
        )
        if any(other in reached for other in near):
            reached.add(node)
        elif is_product(node):
            reached.add(node)
            first.append(node)
    return first if len(first) == 1 else []


def is_product(node: ir.Node) -> bool:
    return is_op(node, *PRODUCTS) and is_float(node)


def is_pointwise(node: ir.Node) -> bool:
    """A bias that is the same for every row, a scale, or an activation; a position is none: it begins the residual."""
    if is_op(node, *ACTIVATIONS):
        return is_float(node)
    affine = bias_of(node) or scale_of(node)
    return affine is not None and is_float(node) and (affine[1].ndim < 2 or affine[1].shape[-2] == 1)


def is_view(node: ir.Node) -> bool:
    return is_op(node, *VIEWS) and is_float(node)


def is_float(node: ir.Node) -> bool:
    return all(value.dtype == ir.DataType.FLOAT for value in node.outputs)


def floats_of(node: ir.Node) -> list[ir.Value]:
    """The float32 inputs of a node, constants included."""
    return [value for value in operands(node) if value.dtype == ir.DataType.FLOAT]


def values_of(node: ir.Node) -> list[ir.Value]:
    """What the node, in half, would read and write in half, constants left out."""
    if not (is_product(node) or is_pointwise(node) or is_view(node)):
        return []
    return [value for value in (*floats_of(node), *node.outputs) if const(value) is None]


def comes_in_half(node: ir.Node, found: Set[ir.Node]) -> bool:
    """Whether all that the node reads, constants and views of constants aside, is in half."""
    sources = [value.producer() for value in floats_of(node) if const(value) is None]
    return any(source in found for source in sources) and all(source in found or is_fixed(source) for source in sources)


def is_fixed(node: ir.Node | None) -> bool:
    """Whether the node is a view of constants, such as the class token repeated for every image."""
    return node is not None and is_view(node) and all(const(value) is not None for value in floats_of(node))


def returned(node: ir.Node) -> bool:
    return any(value.is_graph_output() for value in node.outputs)


def misfits(node: ir.Node, kind: Kind, largest: Mapping[str, float]) -> list[str]:
    """Why the node cannot be computed in half: each value, weight or score that does not fit."""
    sizes: dict[str, float] = {value.name or "": largest[value.name or ""] for value in values_of(node)}
    for value in floats_of(node):
        if (array := const(value)) is not None:
            sizes[value.name or ""] = float(np.abs(array).max(initial=0))
    if is_op(node, "Attention"):
        sizes["its scores"] = largest_score(node, sizes)
    reasons = [f"{name} is {reason}" for name, size in sizes.items() if (reason := misfit(size, kind))]
    return reasons if exists(node, kind) else [f"this opset has no {node.op_type} in {kind}", *reasons]


def exists(node: ir.Node, kind: Kind) -> bool:
    """Whether the operator is defined for the type; Conv in bf16 is from opset 22 on."""
    assert node.graph is not None
    schema = defs.get_schema(node.op_type, node.graph.opset_imports.get("", defs.onnx_opset_version()))
    return f"tensor({SPANS[kind].dtype.name.lower()})" in schema.outputs[0].types


def largest_score(node: ir.Node, sizes: Mapping[str, float]) -> float:
    """A bound of |s q·k| ≤ s d max|q| max|k|, since an Attention does not show its scores."""
    query, key = operands(node)[:2]
    shape = dims(query)
    depth = shape[-1] if shape and len(shape) == 4 else None
    if depth is None:
        return math.inf
    scale = float_of(node, "scale", 1 / math.sqrt(depth))
    return scale * depth * sizes[query.name or ""] * sizes[key.name or ""]


def weight_fits(node: ir.Node, kind: Kind) -> bool:
    """Whether the weight of a product is a constant that fits the type."""
    weight = const(node.inputs[1])
    return weight is not None and misfit(float(np.abs(weight).max(initial=0)), kind) is None
