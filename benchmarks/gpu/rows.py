"""The rows of `benchmarks.gpu.check`: one measurement each, or the reason why it was skipped."""

from __future__ import annotations

import dataclasses

from paraexport.errors import ParaexportError

SKIPPED = "skipped: "
NOTE_CHARACTERS = 300
"""The most in a note."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement. If it was skipped, `note` gives the reason."""

    part: str
    contestant: str
    precision: str
    branches: int
    depth: int
    batch: int = 0
    latency_ms: float | None = None
    error: float | None = None
    """max |Δ logit| / max |logit| against PyTorch on the CPU in float32."""
    memory_bytes: int | None = None
    """Memory of one execution context."""
    engine_bytes: int | None = None
    """Size of the compiled engine with its weights."""
    used_bytes: int | None = None
    """Memory of the GPU that the open session uses after a run. For PyTorch, the peak of its allocator."""
    gflop: float | None = None
    """Operations of the products in the graph, for the whole batch. Then the MB that they read and write."""
    moved_mb: float | None = None
    floor_ms: float | None = None
    """The least time for these, with the ceilings of this run."""
    attained: float | None = None
    """The fraction of the roofline: the floor divided by the latency."""
    passed: bool | None = None
    """None for peers, and for what did not run."""
    note: str = ""


def skipped(row: Row, reason: str) -> Row:
    return dataclasses.replace(row, note=f"{SKIPPED}{reason}")


def describe_error(error: Exception) -> str:
    """The error on one line."""
    kind = "" if isinstance(error, ParaexportError) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(str(error).split())}"[:NOTE_CHARACTERS]
