"""Converts a float32 graph to mixed precision: products in fp16 or bf16, sums in float32.

Half precision rounds a number x to x (1 + δ), with |δ| ≤ 2⁻¹¹ in fp16 and 2⁻⁹ in bf16 (IEEE 754; bf16 is the upper half
of a float32). A product averages the δ of its inputs, so it may run in half. A LayerNormalization, a softmax, the
residual and the sum over branches pass their δ on to everything after them, so they stay float32 (arXiv 1710.03740).
The first and the last product stay float32 too, and only store their weights in half. The largest number of fp16 is
65504: products with larger values stay float32, weights included.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from paraexport.graph.refusal import Applied
from paraexport.precision.half.cast_insertion import CastInserter
from paraexport.precision.half.formats import HalfType
from paraexport.precision.half.node_selection import end_products, half_values, select_nodes, weight_fits


def convert(graph: ir.Graph, half_type: HalfType, largest: Mapping[str, float]) -> Applied:
    """Put the products of a float32 graph, and the nodes between them, in half; `times` counts the nodes.

    `largest` maps the name of each value in `values_to_observe(graph)` to its max |value| on calibration images. Nodes
    whose values do not fit the type stay float32; `refusals` lists them with the numbers. Inputs and outputs of the
    graph stay float32.

    Raises:
        ValueError: `largest` lacks some values; the message lists them all.
    """
    if missing := [name for name in values_to_observe(graph) if name not in largest]:
        raise ValueError(f"the largest value is not known for {', '.join(missing)}")
    applied = Applied(half_type)
    nodes = select_nodes(graph, half_type, largest, applied)
    stored_in_half = [node for node in end_products(graph) if weight_fits(node, half_type)]
    CastInserter(graph, half_type, nodes, stored_in_half).insert()
    applied.times = len(nodes)
    return applied


def values_to_observe(graph: ir.Graph) -> list[str]:
    """The names of the values that a node in half could read or write, in the order of computation."""
    return list(dict.fromkeys(value.name or "" for node in graph for value in half_values(node)))
