"""Records a first look at size and speed, taken during a build."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FirstLook:
    """Sizes, and the median latency of one image. It is no benchmark: few calls, and PyTorch ran at another time."""

    checkpoint_bytes: int
    model_bytes: int
    """The files that the target opens."""
    pytorch_ms: float
    engine_ms: float | None
    """None if the engine cannot run on this machine."""
