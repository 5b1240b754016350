"""Compares the values of an exported graph with the taps of the module that have the same names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from paraexport.graph.onnx_file import load
from paraexport.model.taps import record_taps
from paraexport.targets.ort.probe import open_probe


@dataclass(frozen=True)
class TapDifference:
    """The difference between the graph and PyTorch at one tap."""

    name: str
    relative: float
    """max |Δ| / max |value|."""

    def __str__(self) -> str:
        return f"the first difference is at {self.name}: {self.relative:.3g} of its largest value"


def differences(module: nn.Module, model: Path, images: NDArray[np.float32]) -> list[TapDifference]:
    """The difference at every tap of `module` that the graph at `model` has too, in the order of computation.

    ONNX Runtime runs the graph without optimisations, so that every value exists.

    Args:
        images: [N, C, H, W].
    """
    taps = record_taps(module, torch.from_numpy(images))
    graph = load(model)
    values = {value.name for node in graph.graph for value in node.outputs}
    shared = [name for name in taps if name in values]
    if not shared:
        return []
    with open_probe(graph, shared, optimised=False) as run:
        computed = run(images)
    return [
        TapDifference(name, relative_difference(taps[name].numpy(), value))
        for name, value in zip(shared, computed, strict=True)
        if value.shape == tuple(taps[name].shape)  # a rewritten graph computes only a part of some values
    ]


def first_difference(module: nn.Module, model: Path, images: NDArray[np.float32], limit: float) -> TapDifference | None:
    """The first tap whose difference is larger than `limit`, or None if there is none."""
    all_taps = differences(module, model, images)
    return next((difference for difference in all_taps if not difference.relative <= limit), None)


def relative_difference(expected: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """max |Δ| / max |expected|; infinite if the shapes differ."""
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(expected - got).max()) / scale if expected.shape == got.shape else float("inf")
