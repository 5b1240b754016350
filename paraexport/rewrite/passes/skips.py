"""Writes a skip before a LayerNormalization as a Sum: Add(x, y) = Sum(x, y), for x and y [B, N, D].

ONNX Runtime fuses an Add and the LayerNormalization after it into one SkipLayerNormalization. On CPUs, this kernel is
slower than the two nodes (`python -m benchmarks.forms --precision fp32`). It does not fuse a Sum. The pass applies to
every Add of two activations that a LayerNormalization reads.
"""

from __future__ import annotations

import onnx_ir as ir

from paraexport.graph.query import bias_of, is_op, readers
from paraexport.graph.refusal import Applied

NAME = "skips"


def apply(graph: ir.Graph) -> Applied:
    """Counts the Adds that became Sums."""
    applied = Applied(NAME)
    for node in graph:
        normalised = any(is_op(reader, "LayerNormalization") for value in node.outputs for reader in readers(value))
        if normalised and is_op(node, "Add") and not node.attributes and bias_of(node) is None:
            node.op_type = "Sum"
            applied.times += 1
    return applied
