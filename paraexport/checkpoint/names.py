"""Checks the names of tensors, and removes the words that wrappers put before or into them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from paraexport.checkpoint.conventions.convention import is_number
from paraexport.errors import CheckpointError

LONGEST_NAME = 1000
NUMBERS = re.compile(r"\d+")
WRAPPERS = frozenset({
    "module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_forward_module",
})  # fmt: skip
"""Steps that DataParallel, torch.compile, activation checkpointing, FSDP and Lightning put anywhere into a name."""


def checked_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Refuse impossible names, so that messages stay on one line, then remove the steps of wrappers."""
    for name in tensors:
        if not name.isprintable() or len(name) > LONGEST_NAME:
            raise CheckpointError("a tensor has a name that no parameter can have", got=repr(name[:80]))
    return without_wrappers(tensors)


def without_wrappers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`blocks.0.attn._checkpoint_wrapped_module.qkv.weight` -> `blocks.0.attn.qkv.weight`, unless two names collide."""
    names = {name: unwrapped_name(name) for name in tensors}
    if len(set(names.values())) < len(names):
        return tensors
    return {names[name]: tensor for name, tensor in tensors.items()}


def unwrapped_name(name: str) -> str:
    *steps, leaf = name.split(".")
    return ".".join([*(step for step in steps if step not in WRAPPERS), leaf])


def kinds(names: Sequence[str]) -> list[str]:
    """One name of each kind, numbered ones first: names that differ only in their numbers are of one kind."""
    by_kind = {NUMBERS.sub("*", name): name for name in reversed(names)}
    return sorted(by_kind.values(), key=lambda name: (NUMBERS.search(name) is None, names.index(name)))


def strip_common_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the words before every name, such as `model.` or `net.`, in any order and number.

    Only floating-point tensors count: counters may be outside.
    """
    split = [key.split(".") for key, tensor in tensors.items() if tensor.is_floating_point()]
    if not split:
        return dict(tensors)
    shortest = min(len(steps) for steps in split)
    common = 0
    # numbers count blocks, and the last two steps are a module and its leaf
    while common < shortest - 1 and len({steps[common] for steps in split}) == 1 and not is_number(split[0][common]):
        common += 1
    prefix = "".join(f"{step}." for step in split[0][:common])
    stripped = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return stripped if len(stripped) == len(tensors) else dict(tensors)
