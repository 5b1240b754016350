"""Drawn models: a convention, a spec that it can hold, a numbering of its blocks and the seed of its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from paraexport.model.spec import Spec
from tests.checkpoint.writers import CONVENTIONS, Names

Pick = Callable[[Sequence[Any]], Any]
"""One of several."""


@dataclass(frozen=True)
class Case:
    convention: str
    spec: Spec
    numbering: int
    seed: int

    @property
    def names(self) -> Names:
        return CONVENTIONS[self.convention][0]


@st.composite
def cases(draw: st.DrawFn, /, **chosen: Any) -> Case:
    """Any case, or one with `chosen` as its convention and fields of its spec."""
    return pick_case(lambda choices: draw(st.sampled_from(choices)), **chosen)


def pick_case(pick: Pick, **chosen: Any) -> Case:
    convention = chosen.pop("convention", None) or pick(sorted(CONVENTIONS))
    patch, grid = (pick(range(2, 6)), pick(range(2, 6))), (pick(range(1, 4)), pick(range(1, 5)))
    fields: dict[str, Any] = {
        "image_size": (patch[0] * grid[0], patch[1] * grid[1]),
        "patch_size": patch,
        "channels": pick([1, 3]),
        "classes": pick(range(1, 8)),
        "dim": pick([8, 12, 24]),
        "branches": pick([1, 2, 5, 16]),
        "depth": pick([1, 2, 3]),
        "heads": pick([1, 2, 3, 4]),
        "head_dim": pick([2, 3, 8]),
        "mlp_dim": pick(range(4, 41)),
        "residual": pick(["input", "normalized", "post"]),
        "activation": pick(["gelu", "gelu_tanh", "relu"]),
        "pool": pick(["cls", "mean", "patch_mean"]),
        "norm": pick(["before", "after", "none"]),
        "eps": pick([1e-5, 1e-6, 1e-12, 1e-3]),
        "patch_projection": pick(["linear", "conv"]),
        "patch_norms": pick([False, True]),
        "class_token": pick([True, False]),
        "qkv_bias": pick([True, False]),
        "layer_scale": pick([False, True]),
        **chosen,
        **CONVENTIONS[convention][0].fixed,
    }
    if fields["pool"] == "cls" and not fields["class_token"]:
        fields["class_token" if "pool" in chosen else "pool"] = True if "pool" in chosen else "mean"
    if fields["patch_projection"] == "conv":
        fields["patch_norms"] = False
    if convention == "torch":
        fields["head_dim"] = fields["dim"] // fields["heads"]
        fields["heads"] = fields["dim"] // fields["head_dim"]
    return Case(convention, Spec(**fields), pick(range(4)), pick(range(2**32)))


def options(spec: Spec) -> dict[str, str]:
    """Everything that names and shapes may leave open."""
    words = ("residual", "activation", "pool", "norm", "heads", "depth", "branches")
    sizes = {
        "image_size": "{}x{}".format(*spec.image_size),
        "patch_size": "{}x{}".format(*spec.patch_size),
        "eps": str(spec.eps),
    }
    return {**sizes, **{word: str(getattr(spec, word)) for word in words}}
