"""Writes int8 into a graph: puts QuantizeLinear and DequantizeLinear around the inputs of each product.

x W ≈ ((q(x) − z) s_x) (q(W) s_w). An activation has one scale and one zero point. A weight has one scale per column and
is stored as q(W) = round(W / s_w). Residual sums, norms and attentions between the products stay in float32: a
published ViT-B/16 kept 84.5 % top-1 accuracy this way, and 5.0 % with everything quantised.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.edit import add_constant, add_node, clean
from paraexport.graph.query import const, operands
from paraexport.graph.refusal import Applied
from paraexport.graph.shapes import require_sizes
from paraexport.precision.calibration.calibrators import Scale

NAME = "int8"
LARGEST = 127


def apply(
    graph: ir.Graph, products: Sequence[ir.Node], scales: Mapping[str, Scale], uniform: Collection[ir.Node] = ()
) -> Applied:
    """Quantise these products. `scales` maps the name of each activation to its scale.

    The weights of products in `uniform` get one scale for all columns, the others one scale per column.
    """
    applied = Applied(NAME)
    activations: dict[ir.Value, ir.Value] = {}
    weights: dict[tuple[ir.Value, bool], ir.Value] = {}
    for node in products:
        source, weight = operands(node)
        if source not in activations:
            activations[source] = quantised_activation(graph, node, source, scales[source.name or ""])
        one_scale = node in uniform
        if (weight, one_scale) not in weights:
            weights[weight, one_scale] = quantised_weight(graph, node, weight, uniform=one_scale)
        node.replace_input_with(0, activations[source])
        node.replace_input_with(1, weights[weight, one_scale])
        applied.times += 1
    clean(graph)
    return applied


def quantised_activation(graph: ir.Graph, before: ir.Node, source: ir.Value, scale: Scale) -> ir.Value:
    """`source` rounded to integers and back, inserted before the node that reads it."""
    dtype = np.int8 if scale.signed else np.uint8
    step = add_constant(graph, f"{source.name}/scale", np.asarray(scale.scale, np.float32))
    zero = add_constant(graph, f"{source.name}/zero_point", np.asarray(scale.zero_point, dtype))
    shape = require_sizes(source)
    integers = add_node(
        before, "QuantizeLinear", [source, step, zero], name=f"{source.name}/QuantizeLinear", shape=shape
    )
    integers.dtype = ir.DataType.from_numpy(np.dtype(dtype))
    reals = add_node(
        before, "DequantizeLinear", [integers, step, zero], name=f"{source.name}/DequantizeLinear", shape=shape
    )
    reals.dtype = ir.DataType.FLOAT
    return reals


def quantised_weight(graph: ir.Graph, before: ir.Node, weight: ir.Value, *, uniform: bool) -> ir.Value:
    """The constant as int8 with one scale per column; the same scale for all columns if `uniform`."""
    array, name = const(weight), weight.name or "weight"
    assert array is not None
    steps = column_scales(array)
    if uniform:
        steps = np.full_like(steps, steps.max())
    integers = np.clip(np.rint(array / steps), -LARGEST, LARGEST).astype(np.int8)
    # Leave the zero point out. It is 0, and ONNX Runtime refuses one per column if the weight has three axes.
    inputs = [add_constant(graph, f"{name}/int8", integers), add_constant(graph, f"{name}/scale", steps)]
    axis = {"axis": array.ndim - 1}
    reals = add_node(before, "DequantizeLinear", inputs, axis, name=f"{name}/DequantizeLinear", shape=array.shape)
    reals.dtype = ir.DataType.FLOAT
    return reals


def column_scales(weight: NDArray[Any]) -> NDArray[np.float32]:
    """The scales [J] that map the largest number of each column of [K, J] or [L, K, J] to the integer 127."""
    steps = (np.abs(weight).max(axis=tuple(range(weight.ndim - 1))) / LARGEST).astype(np.float32)
    return np.where(steps > 0, steps, np.float32(1))
