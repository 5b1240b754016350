"""Graphs from elsewhere in the form that the rewrites read, which is the form of a trace (`paraexport.trace`).

Opset 23, the batch the only free length, every size a constant; queries, keys and values by products of their own;
attention as one node; the branches meeting in a Sum. What a step does not understand it leaves as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from paraexport.rewrite.canonical import attention, gemm, packed, prepare, shapes, totals
from paraexport.rewrite.edit import Applied

NAME = "canonical"
Step = Callable[[ir.Model], Applied]


def on_graph(apply: Callable[[ir.Graph], Applied]) -> Step:
    return lambda model: apply(model.graph)


STEPS: tuple[Step, ...] = (
    prepare.apply,
    shapes.apply,
    *map(on_graph, (gemm.apply, totals.apply, packed.apply, attention.apply)),
)
NAMES = frozenset(module.NAME for module in (prepare, shapes, gemm, totals, packed, attention))
