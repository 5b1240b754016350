"""Defines a naming convention."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from paraexport.model.spec import Activation, NormPlace, Pool, Residual

QKV = "attention.qkv"
"""Packed: the rows of query, key and value one after another, [3 · inner, D], each in the order of heads."""


@dataclass(frozen=True, kw_only=True)
class Convention:
    """The names inside one block, and the fields that they imply. None: the names do not imply the field."""

    name: str
    modules: Mapping[str, str]
    """Modules with weight and bias, e.g. `mlp.fc1` -> `feed_forward.fc1`."""
    parameters: Mapping[str, str]
    """Parameters by their whole name, e.g. `ls1.gamma` -> `attention_scale.weight`."""
    eps: float | None = None
    residual: Residual | None = None
    activation: Activation | None = None
    pool: Pool | None = None
    norm: NormPlace | None = None
    """The place of the last norm in the model that these names come from. The name of the norm can override it."""
    head_dim: int | None = None
    output_is_optional: bool = False
    """Whether a block may lack the output projection: with one head of size D, the head's output is the result."""
    branched: bool = False
    """Whether these are names of a model with branches that are summed."""
    is_complete: bool = False
    """Whether these models always have every bias and projection, so that a missing one is an error."""
    mean_std: tuple[float, float] | None = None
    patches_by_channel_last: bool = False
    """Whether a Linear patch projection is known to read a patch as (row, column, channel)."""
    halves: bool = False
    """Whether attention and feed-forward alternate in one list: 2m is the attention of layer m, 2m + 1 the rest."""

    @cached_property
    def parts(self) -> dict[str, str]:
        """The whole name of every parameter in a block -> its canonical name."""
        leaves = {f"{old}.{leaf}": f"{new}.{leaf}" for old, new in self.modules.items() for leaf in ("weight", "bias")}
        return {**leaves, **self.parameters}

    def split(self, key: str) -> tuple[str, str] | None:
        """`encoder.3.mlp.fc1.weight` -> (`encoder.3`, `mlp.fc1.weight`); None if the key is not in a block."""
        if self.halves:
            key = re.sub(r"(?<![^.])([0-9]{1,9})\.(?=(?:norm|fn)\.)", lambda match: halve(int(match[1])), key)
        steps = key.split(".")
        for start in range(len(steps)):
            if (part := ".".join(steps[start:])) in self.parts:
                return ".".join(steps[:start]), part
        return None

    def key(self, prefix: str, part: str) -> str:
        """The key in the checkpoint; the inverse of `split`."""
        if self.halves:
            (*outer, layer), (half, *rest) = prefix.split("."), part.split(".")
            return ".".join([*outer, str(2 * int(layer) + int(half)), *rest])
        return f"{prefix}.{part}" if prefix else part


def is_number(step: str) -> bool:
    """Whether a step of a name is a number. Real numbers are below 10⁹."""
    return re.fullmatch("[0-9]{1,9}", step) is not None


def halve(index: int) -> str:
    return f"{index // 2}.{index % 2}."
