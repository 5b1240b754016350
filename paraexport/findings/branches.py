"""Records what each branch of a model is worth, and what the first k branches can do alone.

The branches are summed before the head, so each part of the result belongs to one branch. All values here were
measured with PyTorch in float32 unless a field names another source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BranchWorth:
    """One branch: its share of the answers, its cost, and the effect of leaving it out."""

    name: str
    """`branches.3`."""
    contribution: float
    """Its mean share of the winning logit above the mean logit. The shares of all branches add up to 1, or to -1
    if the constant part of the logits outweighs the branches."""
    agreement_without: float
    """The share of images, 0 to 1, whose first answer stays the same without this branch."""
    accuracy_without: float | None
    """Top-1 accuracy without this branch, 0 to 1; None without labels."""
    multiply_adds: int
    """For one image."""
    weights_bytes: int
    """In float32."""
    precision_error: float | None
    """‖Δz‖ / ‖z‖ of the sum z over branches if only this branch is lowered; None in float32."""


@dataclass(frozen=True, kw_only=True)
class FirstBranches:
    """The model with only its first k branches."""

    branches: int
    agreement: float
    """The share of images, 0 to 1, that get the same first answer as from all branches."""
    accuracy: float | None
    """Top-1 accuracy, 0 to 1; None without labels."""
    latency_ms: float | None = None
    """The median for one image on the target; None if it was not measured."""
    model_bytes: int | None = None
    """The size of the model with only these branches; None if it was not built."""
    multiply_adds: int | None = None
    """For one image, in the graph that runs; None if it was not built."""


@dataclass(frozen=True, kw_only=True)
class BranchReport:
    """What the branches are worth on some images."""

    images: int
    """The number of images."""
    labelled: bool
    accuracy: float | None
    """Top-1 accuracy with all branches, 0 to 1; None without labels."""
    branches: tuple[BranchWorth, ...]
    similarity: tuple[tuple[float, ...], ...]
    """Linear CKA between the outputs of each two branches (arXiv 1905.00414): 1 means that they hold the same
    information, up to rotation and scale. Symmetric, with ones on the diagonal."""
    first: tuple[FirstBranches, ...]
    """k = 1, 2, …, L."""
    shared_multiply_adds: int
    """For one image, outside the branches: embedding and head."""

    def problems(self) -> Iterator[str]:
        """Find contradictions, each as one clause."""
        count = len(self.branches)
        if not count:
            yield "a report on no branches"
        if any(len(row) != count for row in (self.similarity, *self.similarity)):
            yield f"similarities that do not fit {count} branches"
