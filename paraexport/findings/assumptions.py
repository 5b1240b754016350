"""What a build had to assume."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Assumption:
    """A field that neither the checkpoint nor the user settled; printed, and kept in the manifest."""

    field: str
    value: str
    reason: str
