"""Removes tensors that do not affect the answers: counters, losses and metrics. Refuses weights that are not plain."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from paraexport.checkpoint.conventions import CONVENTIONS
from paraexport.checkpoint.conventions.convention import is_number
from paraexport.checkpoint.given import Guesses
from paraexport.checkpoint.names import strip_common_prefix
from paraexport.checkpoint.stem import stem_names
from paraexport.errors import CheckpointError, shortlist

COUNTING = (torch.bool, torch.int64)
"""Types that never hold weights. Weights of 4 and 8 bits are in shorter integers."""
SHORT = (torch.uint8, torch.int8, torch.int16, torch.int32)
COUNTERS = re.compile(
    r"n_averaged|num_batches_tracked|num_updates|(?:global_)?steps?|epochs?|iterations?|iters?|counter|count|initted"
    r"|initialized|decay|position_ids|token_type_ids|relative_position_index|_?(?:extra_state|rng_state)|num_calls"
)
LOSS_OR_METRIC = re.compile(
    r"(?:^|_)(?:criterions?|criteria|loss|losses|metrics?|acc|acc[15]|accuracy|top[15]|auroc|auc|f1|f1_?score|precision"
    r"|recall|confmat|confusion_?matrix|ece|calibration_error|map|mixup)(?:_|\d|$)",
    re.IGNORECASE,
)
LOSSES_REASON = "losses and metrics do not affect the answers"
COUNTERS_REASON = "counters, flags and indices are not weights; make sure that the model does not compute with them"
REWRITTEN: Mapping[str, tuple[str, str]] = {
    r"\.parametrizations\.\w+\.": ("parametrized", "torch.nn.utils.parametrize.remove_parametrizations"),
    r"\.weight_[gv]$": ("weight-normed", "torch.nn.utils.remove_weight_norm"),
    r"\.weight_(?:orig|mask)$": ("pruned or spectral-normed", "torch.nn.utils.prune.remove or remove_spectral_norm"),
    r"\.(?:lora_[AB]|lora_[ab]|base_layer)(?:\.|$)|\.lora_\w+$": ("held apart in LoRA adapters", "merge_and_unload"),
    r"(?:^|\.)_?flat_param$": ("flattened by FSDP", "a full state dict, FSDP.state_dict_type(FULL_STATE_DICT)"),
}
"""Names of weights that must be computed first -> (their kind, the call that computes them)."""


def without_leftovers(tensors: Mapping[str, Tensor], guesses: Guesses) -> dict[str, Tensor]:
    """The tensors that may belong to the model itself. The others are reported as an assumption.

    Raises:
        CheckpointError: there are weights that must be computed first, or an attention mask, which a Para-Former does
            not have.
    """
    refuse_rewritten(tensors)
    refuse_masks(tensors)
    losses = {name for name in tensors if is_loss_or_metric(name)}
    counters = {name for name, tensor in tensors.items() if name not in losses and is_counter(name, tensor)}
    for names, reason in ((losses, LOSSES_REASON), (counters, COUNTERS_REASON)):
        if names:
            guesses.assume("left_out", shortlist([name for name in tensors if name in names], 4), reason)
    kept = {name: tensor for name, tensor in tensors.items() if name not in losses | counters}
    return strip_common_prefix(kept) if kept and len(kept) < len(tensors) else dict(tensors)


def refuse_rewritten(tensors: Mapping[str, Tensor]) -> None:
    for pattern, (what, call) in REWRITTEN.items():
        if names := [name for name in tensors if re.search(pattern, name)]:
            raise CheckpointError(
                f"some weights are {what}: {shortlist(names, 4)}",
                expected="plain weights",
                remedy=f"call {call} before saving, or give a function that builds the model with --module",
            )


def refuse_masks(tensors: Mapping[str, Tensor]) -> None:
    masks = [name for name, tensor in tensors.items() if is_mask(name, tensor)]
    if masks:
        raise CheckpointError(
            f"the checkpoint contains an attention mask: {shortlist(masks, 4)}",
            expected="a model in which every token attends to every token",
            remedy="give a function that builds the model with --module FILE.py:FUNCTION",
        )


def is_mask(name: str, tensor: Tensor) -> bool:
    """Whether this is a matrix that masks something. A matrix with one value throughout masks nothing."""
    leaf = name.rpartition(".")[2]
    if is_known(name) or tensor.layout != torch.strided or tensor.is_meta or tensor.ndim < 2 or not tensor.numel():
        return False
    named = "mask" in leaf and leaf != "mask_token"
    return (named or tensor.dtype == torch.bool) and bool((tensor != tensor.flatten()[0]).any())


def is_loss_or_metric(name: str) -> bool:
    """Whether a module before the first number has the name of a loss or a metric: `criterion.weight`."""
    steps = name.split(".")[:-1]
    before = next((place for place, step in enumerate(steps) if is_number(step)), len(steps))
    return any(LOSS_OR_METRIC.search(step) for step in steps[:before]) and not is_known(name)


def is_counter(name: str, tensor: Tensor) -> bool:
    leaf = name.rpartition(".")[2]
    if tensor.layout != torch.strided or is_known(name):
        return False
    if tensor.is_floating_point():
        return tensor.ndim == 0 and COUNTERS.fullmatch(leaf) is not None
    return tensor.dtype in COUNTING or (
        tensor.dtype in SHORT and (tensor.ndim == 0 or COUNTERS.fullmatch(leaf) is not None)
    )


def is_known(name: str) -> bool:
    """Whether this is the name of a weight in a known convention."""
    known = stem_names({name: torch.empty(0)}, frozenset())
    return name in known or any(convention.split(name) is not None for convention in CONVENTIONS)
