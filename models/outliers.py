"""Checkpoints that answer as before but hold outliers: exact transformations of a state dict of `ParaFormer`.

A channel is multiplied by a factor where it is written and divided by it where it is read. Real checkpoints come by
such channels in training; here their places and sizes are known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

State = Mapping[str, Tensor]
LAYER = re.compile(r"(branches\.(\d+)\.layers\.\d+)\.attention_norm\.weight")
READERS = {
    "attention_norm": ("attention.query", "attention.key", "attention.value"),
    "feed_forward_norm": ("feed_forward.fc1",),
}
"""The Linears that read each norm of a layer. With `residual="input"` nothing else reads it."""


def gamma_outliers(state: State, factor: float = 300, channels: int = 3) -> dict[str, Tensor]:
    """γ and β of the same few channels in every norm of the branches, times `factor`; for `residual="input"` alone.

    LN(x)·(γ·s) + β·s = s·(LN(x)·γ + β), and what reads the channel has its column of weights divided by s.
    """
    changed = copy_of(state)
    for layer, _ in layers(state):
        for norm, readers in READERS.items():
            chosen = spread(len(state[f"{layer}.{norm}.weight"]), channels)
            for name in ("weight", "bias"):
                changed[f"{layer}.{norm}.{name}"][chosen] *= factor
            for reader in readers:
                changed[f"{layer}.{reader}.weight"][:, chosen] /= factor
    return changed


def value_outliers(
    state: State, branches: Sequence[int] = (1, 3), factor: float = 300, channels: int = 3
) -> dict[str, Tensor]:
    """A few value channels in every layer of `branches`, times `factor`; for any residual.

    Attention mixes tokens and keeps channels apart: it passes s on to the output projection, whose column is divided.
    """
    changed = copy_of(state)
    for layer, branch in layers(state):
        if branch in branches:
            value = f"{layer}.attention.value"
            chosen = spread(len(state[f"{value}.weight"]), channels)
            changed[f"{value}.weight"][chosen] *= factor
            if f"{value}.bias" in changed:
                changed[f"{value}.bias"][chosen] *= factor
            changed[f"{layer}.attention.output.weight"][:, chosen] /= factor
    return changed


def layers(state: State) -> list[tuple[str, int]]:
    """The prefix of every layer, and its branch."""
    return [(found[1], int(found[2])) for name in state if (found := LAYER.fullmatch(name))]


def spread(length: int, count: int) -> Tensor:
    """`count` indices, evenly spaced, so that no head has all of them."""
    if not 0 < count <= length:
        raise ValueError(f"{count} channels of {length}")
    return torch.arange(count) * length // count + length // (2 * count)


def copy_of(state: State) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}
