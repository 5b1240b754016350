"""Finds several copies of one model in a checkpoint, and chooses one of them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping

from torch import Tensor

from paraexport.checkpoint.conventions.convention import is_number
from paraexport.checkpoint.stem import PROJECTION, stem_names
from paraexport.errors import CheckpointError, shortlist

PLAIN = ("state_dict", "model_state_dict", "model", "net", "network", "module", "model_state", "weights", "params")
ONLINE = ("online_model", "online")
"""The names that ema-pytorch and others give to the model beside its averaged copy."""
AVERAGED = re.compile(r"(?:^|_)(?:ema|swa|averaged|avg|shadow|polyak)(?:_|$)", re.IGNORECASE)
ALIKE = 0.5
"""Two state dicts that share more than this part of their names are copies of one model."""


def is_averaged(word: str) -> bool:
    return AVERAGED.search(word) is not None


def choose_copy(names: Mapping[str, set[str]], name_of: Callable[[str], str]) -> tuple[str, str]:
    """Choose a copy from the names of the tensors in each. Returns (copy, reason).

    The reason is empty if there was no choice.

    Raises:
        CheckpointError: there is no sign which copy is the model.
    """
    plain = [word for word in names if word in PLAIN or not word]
    plain = plain or [word for word in names if word in ONLINE]
    averaged = [word for word in names if is_averaged(word) and word not in plain]
    others = [word for word in names if word not in (*plain, *averaged)]
    if not plain and len(others) == 1 and all(alike(names[others[0]], names[word]) for word in averaged):
        plain = others
    candidates = plain or ([] if others and averaged else others) or ([] if others else averaged)
    if len(candidates) != 1:
        raise CheckpointError(
            f"there are several state dicts in it: {shortlist([name_of(word) for word in candidates or names])}",
            remedy="choose one with --weights NAME",
        )
    chosen = candidates[0]
    if rest := [word for word in names if word != chosen]:
        kind = "the averaged copy under " if rest == averaged and len(rest) == 1 else ""
        listed = shortlist([f"'{name_of(word)}'" for word in rest], 8)
        copies = [name_of(word) for word in rest if alike(names[word], names[chosen])]
        remedy = f"; to use it, give --weights {copies[0]}" if copies else ""
        return chosen, f"{kind}{listed} {'are' if len(rest) > 1 else 'is'} left out{remedy}"
    if chosen in averaged:
        return chosen, "the file contains only an averaged copy"
    return chosen, "" if chosen in PLAIN else "it is the only state dict in the file"


def alike(names: set[str], others: set[str]) -> bool:
    """Whether two state dicts hold the same parts of a model. Words before their names do not count."""
    ends = [{tail(name) for name in part} for part in (names, others)]
    return len(ends[0] & ends[1]) > ALIKE * max(len(part) for part in ends)


def tail(name: str) -> str:
    return ".".join(name.split(".")[-3:])


def copies_within(tensors: Mapping[str, Tensor], *, twins: bool = True) -> dict[str, dict[str, Tensor]]:
    """First word -> its tensors, for each copy in one state dict, such as `ema_model.`.

    With `twins`, words that have the same names are copies too, such as `student.` and `teacher.`. The copy without a
    word has the empty word as its key. Tensors that are in no copy are added to every copy.
    """
    groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        first, _, last = name.partition(".")
        if last and not is_number(first):
            groups[first][last] = tensor
    whole = {word for word, group in groups.items() if has_stem(group)}
    words = {word for word in whole if is_averaged(word)}
    if twins:
        words |= {word for word in whole if any(groups[word].keys() == groups[twin].keys() for twin in whole - {word})}
    rest = {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] not in words}
    copies = {
        word: {f"{word}.{name}": tensor for name, tensor in group.items()}
        for word, group in groups.items()
        if word in words
    }
    if not copies or has_stem(rest):
        return {"": rest, **copies} if rest else copies
    return {word: {**copy, **rest} for word, copy in copies.items()}


def has_stem(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these may be a whole model, because they contain the projection of patches."""
    names = stem_names(tensors, frozenset(name.partition(".")[0] for name in tensors))
    return any(canonical.startswith(f"{PROJECTION}.") for canonical, _ in names.values())
