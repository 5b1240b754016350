"""Canonical tensors + spec -> ParaFormer, strictly: every tensor has its place and every place its tensor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from paraexport.checkpoint.canonical import Canonical, numberless, shape
from paraexport.checkpoint.given import ANOTHER, truncated
from paraexport.checkpoint.stem import CLASS_TOKEN, POSITION
from paraexport.errors import CheckpointError
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Spec


def build(canonical: Canonical, spec: Spec) -> ParaFormer:
    """A ParaFormer in eval mode with these weights, of which those that share memory stay one parameter.

    Raises:
        CheckpointError: all missing, unexpected and misshaped tensors at once.
    """
    with torch.device("meta"):
        model = ParaFormer(spec)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tensors = complete(canonical, expected)
    check_strictly(canonical, tensors, expected)
    model.load_state_dict(tied(tensors), assign=True)
    return model.eval().requires_grad_(requires_grad=False)


def keep_branches(model: ParaFormer, count: int) -> ParaFormer:
    """The same model with only its first `count` branches."""
    model.branches = model.branches[:count]
    model.spec = replace(model.spec, branches=count)
    return model


def complete(canonical: Canonical, expected: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Add what a checkpoint may leave out without changing the function.

    A bias that is nowhere is zero (`infer.absent_biases` says so aloud); an output projection that is nowhere is the
    identity (vit-pytorch, one head); a class token without a position has position zero (timm's no_embed_class).
    """
    found = dict(canonical.tensors)
    present = {numberless(name) for name in found}
    convention = canonical.blocks.convention
    if convention.is_complete:
        return found
    for name, size in expected.items():
        if numberless(name) in present:
            continue
        if name.endswith(".bias"):
            found[name] = torch.zeros(size)
        elif convention.output_is_optional and name.endswith("attention.output.weight") and size[0] == size[1]:
            found[name] = torch.eye(size[0])
    position, wanted = found.get(POSITION), expected[POSITION]
    if position is not None and CLASS_TOKEN in found and tuple(position.shape) == (1, wanted[1] - 1, wanted[2]):
        found[POSITION] = nn.functional.pad(position, (0, 0, 1, 0))
    return found


def check_strictly(
    canonical: Canonical, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]
) -> None:
    missing = list(dict.fromkeys(canonical.source(name) for name in expected if name not in tensors))
    extra = [canonical.sources[name] for name in tensors if name not in expected]
    misshaped = [
        f"{canonical.source(name)}{part_of(name, canonical)} expected {list(expected[name])}, got {shape(tensor)}"
        for name, tensor in tensors.items()
        if name in expected and tuple(tensor.shape) != expected[name]
    ]
    listed = {
        "missing": missing,
        "unexpected": [f"{key} {shape(tensor)}" for key, tensor in canonical.unexpected.items()]
        + list(dict.fromkeys(extra)),
        "misshaped": misshaped,
        "contradicting": list(canonical.contradictions),
    }
    if any(listed.values()):
        raise CheckpointError(
            f"the tensors are not those of one Para-Former in the names of {canonical.blocks.convention.name}: "
            + "; ".join(f"{len(items)} {title}: {truncated(items)}" for title, items in listed.items() if items),
            remedy=ANOTHER,
        )


def part_of(name: str, canonical: Canonical) -> str:
    """Which third of a packed tensor is meant."""
    packed = re.search(r"attention\.(query|key|value)\.", name)
    return f" ({packed[1]})" if packed and "qkv" in canonical.source(name) else ""


def tied(tensors: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Each tensor as a parameter; the same memory seen the same way is the same parameter."""
    parameters: dict[object, nn.Parameter] = {}
    return {
        name: parameters.setdefault(identity(tensor), nn.Parameter(tensor, requires_grad=False))
        for name, tensor in tensors.items()
    }


def identity(tensor: Tensor) -> object:
    """Equal for two tensors which are the same view of the same memory."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype
