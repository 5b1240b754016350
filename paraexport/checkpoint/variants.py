"""Makes a model with the same weights and another value of a field that the weights do not determine."""

from __future__ import annotations

import dataclasses

import torch

from paraexport.checkpoint.given import CHOICES
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Spec


def variants(spec: Spec, field: str) -> list[Spec]:
    """All specs that fit the same weights, and differ from `spec` in `field`: heads, residual, activation or pool."""
    if field == "heads":
        inner = spec.heads * spec.head_dim
        divisors = [count for count in range(1, inner + 1) if inner % count == 0]
        others = [dataclasses.replace(spec, heads=count, head_dim=inner // count) for count in divisors]
    else:
        others = [dataclasses.replace(spec, **{field: word}) for word in CHOICES[field]]  # type: ignore[arg-type]
    return [other for other in others if other != spec and not other.problems()]


def with_spec(model: ParaFormer, spec: Spec) -> ParaFormer:
    """The model with another spec for the same weights, which both models share."""
    with torch.device("meta"):
        other = ParaFormer(spec)
    other.load_state_dict(model.state_dict(), assign=True)
    return other.eval().requires_grad_(requires_grad=False)
