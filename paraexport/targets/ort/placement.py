"""Reads from ONNX Runtime's profile of one run where each node ran."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from paraexport.errors import MissingError
from paraexport.targets.ort.provider import Provider

KERNEL = "_kernel_time"
MOST_NUMBERS = 8
"""Numbers in the shape of a tensor, at most."""
SHOWN = 3
"""Nodes that an error names; it counts the rest."""


@dataclass(frozen=True)
class PlacedNode:
    """A node, and the provider that it ran on."""

    node: str
    operator: str
    provider: str
    shapes_only: bool
    """It only computes a few int64, such as sizes. ONNX Runtime keeps these on the CPU on purpose."""

    def __str__(self) -> str:
        return f"{self.node} ({self.operator}) on {self.provider}"


def read_placement(profile: Path) -> tuple[PlacedNode, ...]:
    """Every node of a profile, in the order in which they ran."""
    events = json.loads(profile.read_text(encoding="utf-8"))
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(KERNEL)]
    return tuple(
        PlacedNode(
            kernel["name"].removesuffix(KERNEL),
            kernel["args"]["op_name"],
            kernel["args"]["provider"],
            shapes_only(kernel["args"].get("output_type_shape", ())),
        )
        for kernel in kernels
    )


def shapes_only(outputs: Iterable[Mapping[str, list[int]]]) -> bool:
    """Whether outputs, `[{"int64": [3]}]`, are a few int64 and nothing else."""
    tensors = [(dtype, sizes) for output in outputs for dtype, sizes in output.items()]
    return bool(tensors) and all(dtype == "int64" and prod(sizes) <= MOST_NUMBERS for dtype, sizes in tensors)


def require_on(provider: Provider, nodes: Iterable[PlacedNode]) -> None:
    """Check that every node ran on the provider, apart from nodes that only compute shapes.

    Raises:
        MissingError: a node ran elsewhere, or no node ran on the provider.
    """
    nodes = tuple(nodes)
    elsewhere = [node for node in nodes if node.provider != provider.provider and not node.shapes_only]
    if not elsewhere and any(node.provider == provider.provider for node in nodes):
        return
    more = f" and {len(elsewhere) - SHOWN} more" if len(elsewhere) > SHOWN else ""
    raise MissingError(
        f"{len(elsewhere)} of {len(nodes)} nodes did not run on the GPU",
        where=f"target {provider.name}",
        expected=f"all on {provider.provider}",
        got=", ".join(map(str, elsewhere[:SHOWN])) + more or "no node on it",
        remedy="update onnxruntime, or use another --target; `paraexport doctor` lists those that can run here",
    )
