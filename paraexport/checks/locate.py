"""Where an exported graph first differs from PyTorch: its values against the module's taps of the same names."""

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
class Difference:
    """One tap, and how far the graph is from it."""

    name: str
    relative: float
    """max |Δ| / max |value|."""

    def __str__(self) -> str:
        return f"the first difference is at {self.name}: {self.relative:.3g} of its largest value"


def differences(module: nn.Module, model: Path, images: NDArray[np.float32]) -> list[Difference]:
    """Every tap of `module` that `model` has too, in the order of computation.

    The graph runs on ONNX Runtime without its graph optimisations, so that every value exists.
    """
    taps = record_taps(module, torch.from_numpy(images))
    graph = load(model)
    values = {value.name for node in graph.graph for value in node.outputs}
    shared = [name for name in taps if name in values]
    if not shared:
        return []
    with open_probe(graph, shared, optimised=False) as run:
        found = run(images)
    return [
        Difference(name, relative_difference(taps[name].numpy(), value))
        for name, value in zip(shared, found, strict=True)
        if value.shape == tuple(taps[name].shape)  # a rewritten graph computes some values in part only
    ]


def first_difference(module: nn.Module, model: Path, images: NDArray[np.float32], limit: float) -> Difference | None:
    """The first tap that is further off than `limit`, or None where all that can be compared agree."""
    return next((one for one in differences(module, model, images) if not one.relative <= limit), None)


def relative_difference(expected: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(expected - got).max()) / scale if expected.shape == got.shape else float("inf")
