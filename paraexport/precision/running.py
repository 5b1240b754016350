"""Runs a graph on the CPU, whole or from one of its values on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.edit import clean
from paraexport.targets.ort.probe import open_probe

Array = NDArray[np.float32]


def compute_logits(model: ir.Model, batches: Sequence[Array]) -> Array:
    """The logits [N, classes] of the graph for batches of images [B, C, H, W]."""
    with open_probe(model, [model.graph.outputs[0].name or ""]) as run:
        return np.concatenate([run(images)[0] for images in batches])


def open_head(model: ir.Model, total: str) -> Callable[[Array], Array]:
    """The graph from its value `total` on, as a function: [N, …] -> logits [N, classes]."""
    head = model.clone()
    graph = head.graph
    value = next(value for node in graph for value in node.outputs if value.name == total)
    given = ir.Value(name=f"{total}/given", shape=value.shape, type=value.type)
    value.replace_all_uses_with(given)
    graph.inputs[:] = [given]
    clean(graph)
    run = open_probe(head, [graph.outputs[0].name or ""])
    return lambda sums: run(sums)[0]
