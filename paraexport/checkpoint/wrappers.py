"""What is wrapped around a state dict: training state, EMA copies, DataParallel and other prefixes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from paraexport.checkpoint.config import CONFIG_KEYS, as_mapping
from paraexport.checkpoint.conventions.convention import is_index
from paraexport.checkpoint.given import Guesses, truncated
from paraexport.errors import CheckpointError

PLAIN = ("state_dict", "model_state_dict", "model", "net", "network", "module", "model_state", "weights", "params")
EMA = ("model_ema", "ema", "state_dict_ema", "ema_state_dict", "ema_model", "model_state_dict_ema")
WORDS = ("preprocessing", "labels", "id2label", "class_names")
"""Keys whose values are about the model, besides whole configs."""
DEEPEST = 8
LONGEST_NAME = 1000


@dataclass(frozen=True)
class Weights:
    """The state dict inside a checkpoint and the words that came with it."""

    tensors: dict[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    """What was met under the names of configs, by these names."""


def unwrap(content: object, guesses: Guesses) -> Weights:
    """Descend to the state dict.

    Raises:
        CheckpointError: no tensors, or several state dicts of which none is known to be the model's.
    """
    config: dict[str, Any] = {}
    for _ in range(DEEPEST):
        level = as_mapping(content)
        if level is None:
            break
        config |= {
            key: level[key] for key in (*CONFIG_KEYS, *WORDS) if level.get(key) is not None and key not in config
        }
        tensors = {key: value for key, value in level.items() if isinstance(value, Tensor)}
        inner = choose(level, guesses)
        if inner is None or (len(tensors) > 1 and inner not in PLAIN):
            if not tensors:
                break
            return Weights(without_averaged(strip_common_prefix(checked_names(tensors)), guesses), config)
        content = level[inner]
    raise CheckpointError(
        "there are no named tensors in this checkpoint",
        expected="a state dict, wrapped or not",
        got=summary(content),
        remedy="save model.state_dict()",
    )


def summary(content: object) -> str:
    if not isinstance(content, Mapping) or not content:
        return f"an empty {type(content).__name__}" if content in ({}, []) else type(content).__name__
    return f"the keys {truncated([repr(key) for key in content], 8)}"


def checked_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Refuse what no module has as a name, so that every message is one line and no name costs more than it should."""
    for name in tensors:
        if not name.isprintable() or len(name) > LONGEST_NAME:
            raise CheckpointError("this is no name of a parameter", got=repr(name[:80]))
    return tensors


def choose(level: Mapping[str, Any], guesses: Guesses) -> str | None:
    """The key under which the model's weights are, or None where this level holds them itself."""
    holders = [key for key, value in level.items() if key not in CONFIG_KEYS and holds_tensors(value)]
    plain = [key for key in PLAIN if key in holders]
    averaged = [key for key in EMA if key in holders]
    if len(plain) > 1:
        raise CheckpointError(
            f"several state dicts are in this checkpoint: {', '.join(plain)}",
            remedy="save the one that is meant on its own",
        )
    if plain and averaged:
        guesses.assume("weights", plain[0], f"the averaged copy under {averaged[0]!r} is left out")
    elif averaged:
        guesses.assume("weights", averaged[0], "only an averaged copy is in the file")
    if plain or averaged:
        return (plain or averaged)[0]
    models = [key for key in holders if not is_training_state(level[key])]
    if len(models) > 1 and not any(isinstance(value, Tensor) for value in level.values()):
        raise CheckpointError(
            f"several state dicts are in this checkpoint: {', '.join(models)}",
            remedy="save the one that is meant on its own",
        )
    if len(models) == 1:
        return guesses.assume("weights", models[0], "it is the only state dict in the file")
    return None


def holds_tensors(value: object, depth: int = DEEPEST) -> bool:
    level = as_mapping(value)
    if level is None or not depth:
        return False
    return any(isinstance(item, Tensor) or holds_tensors(item, depth - 1) for item in level.values())


def is_training_state(value: object) -> bool:
    level = as_mapping(value)
    return level is not None and bool({"param_groups", "last_epoch", "state", "scale", "_scale"} & level.keys())


def without_averaged(tensors: dict[str, Tensor], guesses: Guesses) -> dict[str, Tensor]:
    """Leave out, aloud, an averaged copy that stands beside the model in one state dict: `ema_model.` and `model.`."""
    kept = {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] not in EMA}
    if not kept or len(kept) == len(tensors):
        return tensors
    copy = next(name.partition(".")[0] for name in tensors if name not in kept)
    guesses.assume("weights", "plain", f"the averaged copy under '{copy}.' is left out")
    return strip_common_prefix(kept)


def strip_common_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the words that stand before every key: `module.`, `_orig_mod.`, `model.`, in any order and number."""
    split = [key.split(".") for key in tensors]
    shortest = min(len(steps) for steps in split)
    common = 0
    # digits count blocks, and the last two steps are a module and its leaf
    while common < shortest - 1 and len({steps[common] for steps in split}) == 1 and not is_index(split[0][common]):
        common += 1
    return {".".join(steps[common:]): tensor for steps, tensor in zip(split, tensors.values(), strict=True)}
