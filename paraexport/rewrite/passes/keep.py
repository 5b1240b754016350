"""Marks parts that stay in float32 in a lower precision. The names of their nodes get an ending (`naming.KEPT`).

A part is a branch, `branches.3`, or a layer of a branch, `branches.3/layers.1`. Marked nodes are stacked separately.
No number changes.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from paraexport.graph.naming import KEPT, is_in, is_kept
from paraexport.graph.refusal import Applied

NAME = "keep"


def apply(graph: ir.Graph, parts: Iterable[str]) -> Applied:
    """Counts the parts that were marked.

    Raises:
        ValueError: the graph has no node of a part.
    """
    applied = Applied(NAME)
    for part in parts:
        nodes = [node for node in graph if is_in(node.name, part)]
        if not nodes:
            raise ValueError(f"no node belongs to the part {part}")
        for node in nodes:
            if not is_kept(node.name):
                node.name = f"{node.name}{KEPT}"
        applied.times += 1
    return applied
