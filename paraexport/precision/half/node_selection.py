"""Selects the nodes of a float32 graph that may be computed in half."""

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
from paraexport.precision.half.formats import HALF_FORMATS, HalfType, misfit

PRODUCTS = ("Attention", "Conv", "Gemm", "MatMul")
ACTIVATIONS = ("Gelu", "Relu")
VIEWS = (
    "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
)  # fmt: skip
"""These move numbers and change none."""


def select_nodes(graph: ir.Graph, half_type: HalfType, largest: Mapping[str, float], applied: Applied) -> list[ir.Node]:
    """The nodes to put in half, in the order of the graph; nodes that do not fit become refusals of `applied`.

    - A product is in half, unless it is the first or the last one.
    - A bias, a scale or an activation is in half if its input is.
    - A view is in half if all its inputs are, or if all its readers are. This keeps casts few and small.
    """
    selected: set[ir.Node] = set()
    left_out = end_products(graph)
    for node in graph:
        if node in left_out:
            continue
        if is_product(node) or (is_pointwise(node) and comes_in_half(node, selected)):
            if reasons := misfits(node, half_type, largest):
                applied.refuse(node, "; ".join(reasons))
            else:
                selected.add(node)
        elif is_view(node) and comes_in_half(node, selected):
            selected.add(node)
    # Backwards, so that a view sees whether the views after it were selected.
    for node in reversed(graph):
        read_in_half = all(reader in selected for value in node.outputs for reader in readers(value))
        if is_view(node) and read_in_half and not is_returned(node) and not misfits(node, half_type, largest):
            selected.add(node)
    return [node for node in graph if node in selected]


def end_products(graph: ir.Graph) -> list[ir.Node]:
    """The first and the last product of the graph, each only if it is alone: the patch projection and the head.

    Their rounding errors go into every branch, or straight into the logits, and no sum over L branches averages them.
    Each is only about 1 / 12LM of the arithmetic.
    """
    return [*only_first_product(graph, backwards=False), *only_first_product(reversed(graph), backwards=True)]


def only_first_product(nodes: Iterable[ir.Node], *, backwards: bool) -> list[ir.Node]:
    """The product that has no product before it on any path, if there is exactly one.

    With `backwards` the nodes come in reverse, and "before" means "after" in the graph.
    """
    behind_product: set[ir.Node] = set()
    first: list[ir.Node] = []
    for node in nodes:
        if backwards:
            neighbours = [reader for value in node.outputs for reader in readers(value)]
        else:
            neighbours = [producer for value in operands(node) if (producer := value.producer()) is not None]
        if any(neighbour in behind_product for neighbour in neighbours):
            behind_product.add(node)
        elif is_product(node):
            behind_product.add(node)
            first.append(node)
    return first if len(first) == 1 else []


def is_product(node: ir.Node) -> bool:
    return is_op(node, *PRODUCTS) and is_float(node)


def is_pointwise(node: ir.Node) -> bool:
    """Whether the node is an activation, a scale, or a bias that is the same for every token.

    A position embedding differs from token to token. It is excluded, because the residual begins with it.
    """
    if is_op(node, *ACTIVATIONS):
        return is_float(node)
    affine = bias_of(node) or scale_of(node)
    return affine is not None and is_float(node) and (affine[1].ndim < 2 or affine[1].shape[-2] == 1)


def is_view(node: ir.Node) -> bool:
    return is_op(node, *VIEWS) and is_float(node)


def is_float(node: ir.Node) -> bool:
    return all(value.dtype == ir.DataType.FLOAT for value in node.outputs)


def float_inputs(node: ir.Node) -> list[ir.Value]:
    """The float32 inputs of a node, constants included."""
    return [value for value in operands(node) if value.dtype == ir.DataType.FLOAT]


def half_values(node: ir.Node) -> list[ir.Value]:
    """The values that the node would read and write in half, without constants."""
    if not (is_product(node) or is_pointwise(node) or is_view(node)):
        return []
    return [value for value in (*float_inputs(node), *node.outputs) if const(value) is None]


def comes_in_half(node: ir.Node, selected: Set[ir.Node]) -> bool:
    """Whether all inputs of the node are in half, apart from constants and views of constants."""
    sources = [value.producer() for value in float_inputs(node) if const(value) is None]
    return any(source in selected for source in sources) and all(
        source in selected or is_fixed(source) for source in sources
    )


def is_fixed(node: ir.Node | None) -> bool:
    """Whether the node is a view of constants, such as the class token repeated for every image."""
    return node is not None and is_view(node) and all(const(value) is not None for value in float_inputs(node))


def is_returned(node: ir.Node) -> bool:
    return any(value.is_graph_output() for value in node.outputs)


def misfits(node: ir.Node, half_type: HalfType, largest: Mapping[str, float]) -> list[str]:
    """Why the node cannot be computed in half: each value, weight or score that does not fit."""
    sizes: dict[str, float] = {value.name or "": largest[value.name or ""] for value in half_values(node)}
    for value in float_inputs(node):
        if (array := const(value)) is not None:
            sizes[value.name or ""] = float(np.abs(array).max(initial=0))
    if is_op(node, "Attention"):
        sizes["its scores"] = largest_score(node, sizes)
    reasons = [f"{name} is {reason}" for name, size in sizes.items() if (reason := misfit(size, half_type))]
    return reasons if exists(node, half_type) else [f"this opset has no {node.op_type} in {half_type}", *reasons]


def exists(node: ir.Node, half_type: HalfType) -> bool:
    """Whether the graph's opset defines the operator for the type; Conv in bf16 needs opset 22."""
    assert node.graph is not None
    schema = defs.get_schema(node.op_type, node.graph.opset_imports.get("", defs.onnx_opset_version()))
    return f"tensor({HALF_FORMATS[half_type].dtype.name.lower()})" in schema.outputs[0].types


def largest_score(node: ir.Node, sizes: Mapping[str, float]) -> float:
    """A bound of |s q·k| ≤ s d max|q| max|k|, because an Attention does not output its scores."""
    query, key = operands(node)[:2]
    shape = dims(query)
    head_dim = shape[-1] if shape and len(shape) == 4 else None
    if head_dim is None:
        return math.inf
    scale = float_of(node, "scale", 1 / math.sqrt(head_dim))
    return scale * head_dim * sizes[query.name or ""] * sizes[key.name or ""]


def weight_fits(node: ir.Node, half_type: HalfType) -> bool:
    """Whether the weight of a product is a constant that fits the type."""
    weight = const(node.inputs[1])
    return weight is not None and misfit(float(np.abs(weight).max(initial=0)), half_type) is None
