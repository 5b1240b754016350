"""Brings a graph back from the form of a trace to the operators and the opset of its file.

Attention(q, k, v) = softmax(s q kᵀ) v is written out again, unless the file had Attention nodes. The opset becomes that
of the file, or the next newer one that has all operators of the rewritten graph; the reasons for a newer one are
reported.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from paraexport.graph.query import is_op, opset_of
from paraexport.graph.refusal import Applied
from paraexport.rewrite.canonical.prepare import OPSET
from paraexport.rewrite.passes import lower, tidy

NAME = "restore"


def step_for(model: ir.Model) -> Callable[[ir.Model], Applied]:
    """The last step. `model` must be the graph before the first step."""
    version = opset_of(model.graph)
    has_attention = any(is_op(node, "Attention") for node in model.graph)
    return lambda rewritten: apply(rewritten, version, keep_attention=has_attention)


def apply(model: ir.Model, version: int, *, keep_attention: bool = False) -> Applied:
    """Bring the model to opset `version`, or report why it stays newer. Counts the written-out attentions."""
    if keep_attention:
        return Applied(NAME)
    reasons: list[str] = []
    for opset in range(version, max(version, OPSET) + 1):
        lowered = lower.apply(model, opset, origin=version)
        if not lowered.refusals:
            tidy.apply(model.graph)
            return Applied(NAME, lowered.times, reasons)
        reasons = reasons or lowered.refusals
    return Applied(NAME, 0, reasons)
