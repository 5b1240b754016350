"""Where each node ran: ONNX Runtime's own profile of one run, read back."""

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
"""In a shape."""
SHOWN = 3


@dataclass(frozen=True)
class Placed:
    """A node that ran."""

    node: str
    operator: str
    provider: str
    shapes_only: bool
    """It computes nothing but a few int64: sizes, which ONNX Runtime keeps on the CPU on purpose."""

    def __str__(self) -> str:
        return f"{self.node} ({self.operator}) on {self.provider}"


def placed_in(profile: Path) -> tuple[Placed, ...]:
    """Every node of a profile, in the order in which they ran."""
    events = json.loads(profile.read_text(encoding="utf-8"))
    kernels = [one for one in events if one.get("cat") == "Node" and one["name"].endswith(KERNEL)]
    return tuple(
        Placed(
            one["name"].removesuffix(KERNEL),
            one["args"]["op_name"],
            one["args"]["provider"],
            shapes_only(one["args"].get("output_type_shape", ())),
        )
        for one in kernels
    )


def shapes_only(outputs: Iterable[Mapping[str, list[int]]]) -> bool:
    """Whether outputs, `[{"int64": [3]}]`, are a few int64 and nothing else."""
    found = [(kind, sizes) for output in outputs for kind, sizes in output.items()]
    return bool(found) and all(kind == "int64" and prod(sizes) <= MOST_NUMBERS for kind, sizes in found)


def require_on(provider: Provider, placed: Iterable[Placed]) -> None:
    """Every node ran on the provider, but for those that only compute shapes.

    Raises:
        MissingError: a node ran elsewhere, or none ran at all.
    """
    placed = tuple(placed)
    astray = [one for one in placed if one.provider != provider.provider and not one.shapes_only]
    if not astray and any(one.provider == provider.provider for one in placed):
        return
    more = f" and {len(astray) - SHOWN} more" if len(astray) > SHOWN else ""
    raise MissingError(
        f"{len(astray)} of {len(placed)} nodes did not run on the GPU",
        where=f"target {provider.name}",
        expected=f"all on {provider.provider}",
        got=", ".join(map(str, astray[:SHOWN])) + more or "no node",
        remedy="update onnxruntime, or take another --target: paraexport doctor tells which can run here",
    )
