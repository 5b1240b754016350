"""Graphs from elsewhere in the form that the rewrites read, which is the form of a trace (`paraexport.trace.trace`).

Opset 23, the batch the only free length, every size a constant; queries, keys and values by products of their own;
attention as one node; the branches meeting in a Sum. What a step does not understand it leaves as it is.
"""

from __future__ import annotations

from paraexport.rewrite.canonical import attention, gemm, packed, prepare, shapes, totals
from paraexport.rewrite.whole import Step, on_graph, whole

NAME = "canonical"
STEPS: tuple[Step, ...] = (
    whole(prepare.NAME, prepare.apply),
    whole(shapes.NAME, shapes.apply),
    *(whole(one.NAME, on_graph(one.apply)) for one in (gemm, totals, packed, attention)),
)
NAMES = frozenset(module.NAME for module in (prepare, shapes, gemm, totals, packed, attention))
