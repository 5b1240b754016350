"""int8 in the graph: each product reads its activation and its weight through QuantizeLinear and DequantizeLinear.

x W ≈ ((q(x) − z) s_x) (q(W) s_w) with one scale and zero point an activation, and one scale a column of a weight, for
which q(W) = round(W / s_w) is stored. The residual sums, norms and attentions between the products stay in float32: a
published ViT-B/16 kept 84.5 % of top-1 that way, and 5.0 % with everything quantised.
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
    """Quantise these products with the scales of the values that they read, by name.

    A weight of the products `uniform` has one scale for all its columns.
    """
    applied = Applied(NAME)
    read: dict[ir.Value, ir.Value] = {}
    weights: dict[tuple[ir.Value, bool], ir.Value] = {}
    for node in products:
        source, weight = operands(node)
        if source not in read:
            read[source] = quantised_activation(graph, node, source, scales[source.name or ""])
        one_scale = node in uniform
        if (weight, one_scale) not in weights:
            weights[weight, one_scale] = quantised_weight(graph, node, weight, uniform=one_scale)
        node.replace_input_with(0, read[source])
        node.replace_input_with(1, weights[weight, one_scale])
        applied.times += 1
    clean(graph)
    return applied


def quantised_activation(graph: ir.Graph, before: ir.Node, source: ir.Value, scale: Scale) -> ir.Value:
    """`source`, through integers, just after it is computed."""
    kind = np.int8 if scale.signed else np.uint8
    step = add_constant(graph, f"{source.name}/scale", np.asarray(scale.scale, np.float32))
    zero = add_constant(graph, f"{source.name}/zero_point", np.asarray(scale.zero_point, kind))
    shape = require_sizes(source)
    integers = add_node(
        before, "QuantizeLinear", [source, step, zero], name=f"{source.name}/QuantizeLinear", shape=shape
    )
    integers.dtype = ir.DataType.from_numpy(np.dtype(kind))
    reals = add_node(
        before, "DequantizeLinear", [integers, step, zero], name=f"{source.name}/DequantizeLinear", shape=shape
    )
    reals.dtype = ir.DataType.FLOAT
    return reals


def quantised_weight(graph: ir.Graph, before: ir.Node, weight: ir.Value, *, uniform: bool) -> ir.Value:
    """The constant as integers, with one scale for each of its columns, or the same for all."""
    array, name = const(weight), weight.name or "weight"
    assert array is not None
    steps = column_scales(array)
    if uniform:
        steps = np.full_like(steps, steps.max())
    integers = np.clip(np.rint(array / steps), -LARGEST, LARGEST).astype(np.int8)
    # No zero point: it is 0, and ONNX Runtime refuses one with an axis where the weight has three.
    inputs = [add_constant(graph, f"{name}/int8", integers), add_constant(graph, f"{name}/scale", steps)]
    axis = {"axis": array.ndim - 1}
    reals = add_node(before, "DequantizeLinear", inputs, axis, name=f"{name}/DequantizeLinear", shape=array.shape)
    reals.dtype = ir.DataType.FLOAT
    return reals


def column_scales(weight: NDArray[Any]) -> NDArray[np.float32]:
    """[J]: what makes the largest number of each column of [K, J] or [L, K, J] the integer 127."""
    steps = (np.abs(weight).max(axis=tuple(range(weight.ndim - 1))) / LARGEST).astype(np.float32)
    return np.where(steps > 0, steps, np.float32(1))
