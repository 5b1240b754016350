"""Fills a ParaFormer with canonical tensors. Every tensor must have its place, and every place its tensor."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from paraexport.checkpoint.canonical import Canonical, numberless, shape
from paraexport.checkpoint.given import ANOTHER
from paraexport.checkpoint.stem import CLASS_TOKEN, POSITION
from paraexport.errors import CheckpointError, shortlist
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Spec


def build(canonical: Canonical, spec: Spec) -> ParaFormer:
    """A ParaFormer in eval mode with these weights. Tensors that share memory become one parameter.

    Raises:
        CheckpointError: tensors are missing, unexpected or misshaped. The message lists all of them.
    """
    with torch.device("meta"):
        model = ParaFormer(spec)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tensors = complete(canonical, expected)
    check_strictly(canonical, tensors, expected)
    model.load_state_dict(tied(tensors), assign=True)
    return model.eval().requires_grad_(requires_grad=False)


def keep_branches(model: ParaFormer, numbers: Sequence[int]) -> ParaFormer:
    """The same model with only the branches with these numbers, counted from 0, in this order."""
    model.branches = nn.ModuleList(model.branches[number] for number in numbers)
    model.spec = replace(model.spec, branches=len(numbers))
    return model


def complete(canonical: Canonical, expected: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Add tensors that a checkpoint may leave out without changing the function.

    A bias that no block has is zero (`infer.absent_biases` reports this). An output projection that no block has is the
    identity (vit-pytorch with one head). A class token without a position has position zero (timm's no_embed_class).
    """
    tensors = dict(canonical.tensors)
    present = {numberless(name) for name in tensors}
    convention = canonical.blocks.convention
    if convention.is_complete:
        return tensors
    for name, size in expected.items():
        if numberless(name) in present:
            continue
        if name.endswith(".bias"):
            tensors[name] = torch.zeros(size)
        elif convention.output_is_optional and name.endswith("attention.output.weight") and size[0] == size[1]:
            tensors[name] = torch.eye(size[0])
    position, wanted = tensors.get(POSITION), expected[POSITION]
    if position is not None and CLASS_TOKEN in tensors and tuple(position.shape) == (1, wanted[1] - 1, wanted[2]):
        tensors[POSITION] = nn.functional.pad(position, (0, 0, 1, 0))
    return tensors


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
            f"the tensors do not form a Para-Former with the names of {canonical.blocks.convention.name}: "
            + "; ".join(f"{len(items)} {title}: {shortlist(items)}" for title, items in listed.items() if items),
            remedy=ANOTHER,
        )


def part_of(name: str, canonical: Canonical) -> str:
    """The third of a packed tensor that `name` is, for messages."""
    packed = re.search(r"attention\.(query|key|value)\.", name)
    return f" ({packed[1]})" if packed and "qkv" in canonical.source(name) else ""


def tied(tensors: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Each tensor as a parameter. Equal views of the same memory become one parameter."""
    parameters: dict[object, nn.Parameter] = {}
    return {
        name: parameters.setdefault(identity(tensor), nn.Parameter(tensor, requires_grad=False))
        for name, tensor in tensors.items()
    }


def identity(tensor: Tensor) -> object:
    """A key that is equal for two tensors if they are the same view of the same memory."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype
