"""Graphs from elsewhere in the form that the rewrites read, which is the form of a trace (`paraexport.trace`).

Opset 23, the batch the only free length, every size a constant; queries, keys and values by products of their own;
attention as one node; the branches meeting in a Sum. What a step does not understand it leaves as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from paraexport.rewrite.canonical import attention, gemm, packed, prepare, shapes, totals
from paraexport.rewrite.edit import Applied

Step = Callable[[ir.Model], Applied]


def on_graph(apply: Callable[[ir.Graph], Applied]) -> Step:
    return lambda model: apply(model.graph)


STEPS: tuple[tuple[str, Step], ...] = (
    (prepare.NAME, prepare.apply),
    (shapes.NAME, shapes.apply),
    (gemm.NAME, on_graph(gemm.apply)),
    (totals.NAME, on_graph(totals.apply)),
    (packed.NAME, on_graph(packed.apply)),
    (attention.NAME, on_graph(attention.apply)),
)
