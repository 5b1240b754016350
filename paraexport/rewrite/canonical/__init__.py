"""Graphs from elsewhere in the form that the rewrites read, which is the form of a trace (`paraexport.trace.trace`).

Opset 23, the batch the only free length, every size a constant; queries, keys and values by products of their own;
attention as one node; the branches meeting in a Sum. What a step does not understand it leaves as it is.
"""

from __future__ import annotations

from paraexport.rewrite.atomic import Step, atomic, on_graph
from paraexport.rewrite.canonical import attention, gemm, packed, prepare, shapes, totals

NAME = "canonical"
STEPS: tuple[Step, ...] = (
    atomic(prepare.NAME, prepare.apply),
    atomic(shapes.NAME, shapes.apply),
    *(atomic(one.NAME, on_graph(one.apply)) for one in (gemm, totals, packed, attention)),
)
NAMES = frozenset(module.NAME for module in (prepare, shapes, gemm, totals, packed, attention))
