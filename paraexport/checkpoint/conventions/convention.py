"""What a naming convention is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from paraexport.model.spec import Activation, NormPlace, Pool, Residual

QKV = "attention.qkv"
"""Packed: the rows of query, key and value stacked, [3 · inner, D], each head after head."""


@dataclass(frozen=True, kw_only=True)
class Convention:
    """The names inside one block, and what they imply. None: the names do not say."""

    name: str
    modules: Mapping[str, str]
    """A module with weight and bias, e.g. `mlp.fc1` -> `feed_forward.fc1`."""
    parameters: Mapping[str, str]
    """A parameter by its whole name, e.g. `ls1.gamma` -> `attention_scale.weight`."""
    eps: float | None = None
    residual: Residual | None = None
    activation: Activation | None = None
    pool: Pool | None = None
    norm: NormPlace | None = None
    """Where the model that these names come from has its last norm, unless the norm's own name says otherwise."""
    head_dim: int | None = None
    output_is_optional: bool = False
    """Without an output projection the heads' output is the attention's, as where there is one head of size D."""
    branched: bool = False
    """These are names of a model with branches that are summed."""
    is_complete: bool = False
    """What is nowhere is missing: these models leave no bias or projection out."""
    mean_std: tuple[float, float] | None = None
    patches_by_channel_last: bool = False
    """A Linear patch projection is known to read a patch as (row, column, channel)."""
    halves: bool = False
    """Attention and feed-forward alternate in one list: item 2m is the attention of layer m, item 2m + 1 the rest."""

    @cached_property
    def parts(self) -> dict[str, str]:
        """Every name inside a block, whole."""
        leaves = {f"{old}.{leaf}": f"{new}.{leaf}" for old, new in self.modules.items() for leaf in ("weight", "bias")}
        return {**leaves, **self.parameters}

    def split(self, key: str) -> tuple[str, str] | None:
        """`encoder.3.mlp.fc1.weight` -> (`encoder.3`, `mlp.fc1.weight`), or None where no part of a block is named."""
        if self.halves:
            key = re.sub(r"(?<![^.])([0-9]{1,9})\.(?=(?:norm|fn)\.)", lambda half: halve(int(half[1])), key)
        steps = key.split(".")
        for start in range(len(steps)):
            if (part := ".".join(steps[start:])) in self.parts:
                return ".".join(steps[:start]), part
        return None

    def key(self, prefix: str, part: str) -> str:
        """The key in the checkpoint: what `split` took apart."""
        if self.halves:
            (*outer, layer), (half, *rest) = prefix.split("."), part.split(".")
            return ".".join([*outer, str(2 * int(layer) + int(half)), *rest])
        return f"{prefix}.{part}" if prefix else part


def is_index(step: str) -> bool:
    """Whether a step of a name is a number; nothing has more than 10⁹ parts."""
    return re.fullmatch("[0-9]{1,9}", step) is not None


def halve(index: int) -> str:
    return f"{index // 2}.{index % 2}."
