"""Permutes a Linear that reads patches as (channel, row, column), so that it reads (row, column, channel)."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from paraexport.checkpoint.canonical import Canonical
from paraexport.checkpoint.given import PatchOrder
from paraexport.checkpoint.stem import NORM_IN, PROJECTION
from paraexport.model.spec import Spec


def to_channel_last(canonical: Canonical, spec: Spec, order: PatchOrder | None) -> Canonical:
    """Permute the columns of the patch projection and of the norm before it, if they are in another `order`.

    The function stays the same: neither a dot product nor the mean and variance of a norm depend on the order.
    """
    if order != "channel_first" or spec.patch_projection != "linear":
        return canonical
    names = [f"{PROJECTION}.weight", f"{NORM_IN}.weight", f"{NORM_IN}.bias"]
    width = spec.channels * spec.patch_size[0] * spec.patch_size[1]
    permuted = {
        name: permute(tensor, spec)
        for name, tensor in canonical.tensors.items()
        if name in names and tensor.shape[-1:] == (width,)
    }
    return replace(canonical, tensors={**canonical.tensors, **permuted})


def permute(tensor: Tensor, spec: Spec) -> Tensor:
    """[…, C·h·w] -> […, h·w·C]."""
    patches = tensor.reshape(*tensor.shape[:-1], spec.channels, *spec.patch_size)
    return patches.movedim(-3, -1).flatten(-3).contiguous()
