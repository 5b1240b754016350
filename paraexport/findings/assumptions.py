"""Records an assumption of a build."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Assumption:
    """A value that neither the checkpoint nor the user gave. It is printed, and stored in the manifest."""

    field: str
    value: str
    reason: str
