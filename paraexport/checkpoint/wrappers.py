"""Unwraps the state dict in a checkpoint: removes training state, further copies, and words before every name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from paraexport.checkpoint.config import CONFIG_KEYS
from paraexport.checkpoint.contents import as_level, holds_tensors, holds_weights, plain_words
from paraexport.checkpoint.copies import PLAIN, choose_copy, copies_within, is_averaged
from paraexport.checkpoint.given import Guesses
from paraexport.checkpoint.names import checked_names, strip_common_prefix, without_wrappers
from paraexport.errors import CheckpointError, shortlist

WORDS = ("preprocessing", "labels", "id2label", "class_names")
"""Keys with facts about the model, besides whole configs."""
TRAINING_STATE = frozenset({"param_groups", "last_epoch", "state", "scale", "_scale"})
DEEPEST = 8
WHOLE = "plain"
"""The name, in `--weights`, of the copy that has no word before its names."""


@dataclass(frozen=True)
class Weights:
    """The state dict inside a checkpoint, and the configs that came with it."""

    tensors: dict[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    """The configs in the checkpoint, by their keys."""


def unwrap(content: object, guesses: Guesses, wanted: str | None = None, *, twins: bool = True) -> Weights:
    """Find the state dict of the model in the content of a checkpoint.

    Args:
        wanted: the name of the copy to use: `ema`, `state_dict.teacher`.
        twins: whether two parts of a state dict with the same names are two copies of the model, not two parts of it.

    Raises:
        CheckpointError: there are no tensors, several state dicts and no sign which is the model's, or no copy with
            the name `wanted`.
    """
    config: dict[str, Any] = {}
    steps = find_copy(content, wanted, twins=twins) if wanted is not None else ()
    for _ in range(DEEPEST):
        level = as_level(content)
        if level is None:
            break
        config |= {
            key: plain_words(level[key])
            for key in (*CONFIG_KEYS, *WORDS)
            if level.get(key) is not None and key not in config
        }
        tensors = named_tensors(level)
        note_nameless_copies(level, guesses)
        inner = steps[0] if steps and steps[0] in holders(level) else None
        if inner is None and not steps:
            inner = choose_holder(level, len(tensors) > 1, guesses)
        if inner is None:
            if not tensors:
                break
            copies = copies_within(strip_common_prefix(checked_names(tensors)), twins=twins)
            return Weights(pick_copy(copies, steps[0] if steps else None, guesses), config)
        content, steps = level[inner], steps[1:]
    raise CheckpointError(
        "this checkpoint contains no named tensors",
        expected="a state dict, wrapped or not",
        got=summary(content),
        remedy="save model.state_dict()",
    )


def summary(content: object) -> str:
    if not isinstance(content, dict) or not content:
        return f"an empty {type(content).__name__}" if content in ({}, []) else type(content).__name__
    return f"the keys {shortlist([repr(key)[:40] for key in dict.keys(content)], 8)}"


def named_tensors(level: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of this level, without attributes that a pickle has set on them."""
    return {key: Tensor.detach(value) for key, value in level.items() if isinstance(value, Tensor)}


def holders(level: Mapping[str, Any]) -> list[str]:
    """The keys of this level that may lead to the weights of a model."""
    return [
        key
        for key, value in level.items()
        if key not in CONFIG_KEYS
        and as_level(value) is not None
        and holds_tensors(value)
        and not is_training_state(key, value)
    ]


def is_training_state(key: str, value: object) -> bool:
    level = as_level(value)
    return key not in PLAIN and not is_averaged(key) and level is not None and bool(TRAINING_STATE & level.keys())


def note_nameless_copies(level: Mapping[str, Any], guesses: Guesses) -> None:
    """Report averaged copies that are lists, such as `{"ema": {"shadow_params": [...]}}`. They cannot be read."""
    for key, value in level.items():
        inner = as_level(value) or {}
        lists = (
            [key] if is_list_of_weights(value) else [f"{key}.{k}" for k, v in inner.items() if is_list_of_weights(v)]
        )
        for name in lists:
            if is_averaged(key) or any(is_averaged(word) for word in name.split(".")):
                reason = f"the averaged copy {name_of(name)} is left out, because its tensors have no names"
                remedy = "to use it, copy it into the model before saving"
                guesses.assume("weights", "without the averaged copy", f"{reason}; {remedy}")


def is_list_of_weights(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) > 1 and all(isinstance(item, Tensor) for item in value)


def choose_holder(level: Mapping[str, Any], has_tensors: bool, guesses: Guesses) -> str | None:
    """The key that leads to the weights of the model, or None if they are on this level itself."""
    keys = holders(level)
    known = [key for key in keys if key in PLAIN or is_averaged(key)]
    # beside tensors, a dict under an unknown name is something extra, not the model
    if not known and (has_tensors or not keys):
        return None
    if has_tensors and not any(key in PLAIN for key in known):
        return None
    heavy = [key for key in keys if holds_weights(level[key])]
    if not heavy and len(keys) == 1:
        heavy = keys
    if not heavy:
        return None
    chosen, reason = choose_copy({key: names_below(level[key]) for key in heavy}, name_of)
    if reason:
        guesses.assume("weights", name_of(chosen), reason)
    return chosen


def pick_copy(copies: dict[str, dict[str, Tensor]], wanted: str | None, guesses: Guesses) -> dict[str, Tensor]:
    """The copy `wanted` from one state dict. Without a wish, choose one and report it."""
    chosen = "" if wanted == WHOLE else wanted
    if chosen is None:
        chosen, reason = choose_copy({word: set(copy) for word, copy in copies.items()}, name_of)
        if reason and len(copies) > 1:
            guesses.assume("weights", name_of(chosen), reason)
    return strip_common_prefix(copies[chosen])


def name_of(word: str) -> str:
    """The name of a copy in messages and in `--weights`."""
    return (word if word.isprintable() else ascii(word)[1:-1])[:80] or WHOLE


def names_below(content: object) -> set[str]:
    """The names of the tensors in the nearest state dict at this level or below."""
    pending, visited = [content], set()
    while pending:
        value = pending.pop(0)
        if id(value) in visited or (level := as_level(value)) is None:
            continue
        visited.add(id(value))
        if names := set(named_tensors(level)):
            return names
        pending += level.values()
    return set()


def find_copy(content: object, wanted: str, *, twins: bool) -> tuple[str, ...]:
    """The keys that lead to the copy `wanted`, given by its whole name or the end of its name.

    Raises:
        CheckpointError: no copy or several copies have this name. The message lists the possible names.
    """
    places = places_in(content, twins=twins)
    names = {".".join(map(name_of, place)): place for place in places}
    matching = [name for name in names if name == wanted] or [name for name in names if name.endswith(f".{wanted}")]
    if len(matching) != 1:
        raise CheckpointError(
            f"{len(matching) or 'no'} weights in this checkpoint are called {name_of(wanted)}",
            expected=f"one of {shortlist(matching or list(names))}" if names else "no --weights: there is one copy",
            remedy="give one of these as --weights" if names else "leave it out",
        )
    return names[matching[0]]


def places_in(content: object, *, twins: bool) -> list[tuple[str, ...]]:
    """Every possible value of `--weights`, as the keys that lead to the copy. Upper levels come first."""
    places: list[tuple[str, ...]] = []
    pending: list[tuple[tuple[str, ...], object]] = [((), content)]
    visited = set()
    while pending:
        path, value = pending.pop(0)
        level = as_level(value)
        if level is None or len(path) >= DEEPEST or id(value) in visited:
            continue
        visited.add(id(value))
        inner = [key for key in holders(level) if holds_weights(level[key])]
        places += [(*path, key) for key in inner]
        pending += [((*path, key), level[key]) for key in inner]
        if tensors := named_tensors(level):
            copies = copies_within(strip_common_prefix(without_wrappers(tensors)), twins=twins)
            places += [(*path, word or WHOLE) for word in copies] if len(copies) > 1 else []
    return places
