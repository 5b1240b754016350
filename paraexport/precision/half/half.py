"""float32 -> fp16 or bf16: products and what leads from one to the next in half, everything that adds up in float32.

A number is rounded to x (1 + δ), |δ| ≤ 2⁻¹¹ in fp16 and 2⁻⁹ in bf16 (IEEE 754; bf16 is the upper half of a float32). A
product averages the δ of what it reads; a LayerNormalization, a softmax, the residual and the sum over branches hand
theirs on to everything after them, and stay float32 (arXiv 1710.03740). So do the first and the last product, whose
weights are kept in half. fp16 ends at 65504: what would pass it stays float32 with its weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from paraexport.graph.refusal import Applied
from paraexport.precision.half.chosen import chosen, ends, values_of, weight_fits
from paraexport.precision.half.span import Kind
from paraexport.precision.half.typed import Typed


def apply(graph: ir.Graph, kind: Kind, largest: Mapping[str, float]) -> Applied:
    """Put the products of a float32 graph, and what lies between them, in `kind`; `times` counts the nodes.

    `largest` is max |value| on calibration data, by the name of the value: all of `values_to_observe(graph)`. What does
    not fit the type stays float32, and is told in `refusals` with the numbers. Inputs and outputs of the graph stay
    float32.

    Raises:
        ValueError: a value has no number in `largest`; all of them are listed.
    """
    if missing := [name for name in values_to_observe(graph) if name not in largest]:
        raise ValueError(f"no largest value known of {', '.join(missing)}")
    applied = Applied(kind)
    nodes = chosen(graph, kind, largest, applied)
    Typed(graph, kind, nodes, [node for node in ends(graph) if weight_fits(node, kind)]).write()
    applied.times = len(nodes)
    return applied


def values_to_observe(graph: ir.Graph) -> list[str]:
    """The names of the values that a node in half could read or write, in the order of computation."""
    return list(dict.fromkeys(value.name or "" for node in graph for value in values_of(node)))
