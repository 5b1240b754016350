"""Skips as sums: x + y in front of a LayerNormalization is written Sum(x, y), which is the same number.

ONNX Runtime makes one SkipLayerNormalization of an Add and the LayerNormalization behind it, and on CPUs that kernel is
slower than the two apart (`python -m benchmarks.forms --precision fp32`). A Sum it leaves alone.
"""

from __future__ import annotations

import onnx_ir as ir

from paraexport.graph.query import bias_of, is_op, readers
from paraexport.graph.refusal import Applied

NAME = "skips"


def apply(graph: ir.Graph) -> Applied:
    """Counts the Adds of two activations that a LayerNormalization reads."""
    applied = Applied(NAME)
    for node in graph:
        normalised = any(is_op(reader, "LayerNormalization") for value in node.outputs for reader in readers(value))
        if normalised and is_op(node, "Add") and not node.attributes and bias_of(node) is None:
            node.op_type = "Sum"
            applied.times += 1
    return applied
