"""Brings a graph of another exporter to the form of a trace (`paraexport.trace.trace`), which all passes read.

In this form, the opset is 23, the batch is the only free length, and all other sizes are constants. Queries, keys and
values come from separate products, an attention is one node, and a Sum adds up the branches. A step does not change
nodes that it does not understand.
"""

from __future__ import annotations

from paraexport.rewrite.atomic import Step, atomic, on_graph
from paraexport.rewrite.canonical import attention, gemm, packed, prepare, shapes, totals

NAME = "canonical"
STEPS: tuple[Step, ...] = (
    atomic(prepare.NAME, prepare.apply),
    atomic(shapes.NAME, shapes.apply),
    *(atomic(module.NAME, on_graph(module.apply)) for module in (gemm, totals, packed, attention)),
)
NAMES = frozenset(module.NAME for module in (prepare, shapes, gemm, totals, packed, attention))
