"""Several copies of one model in a checkpoint: which there are, and which is meant where nobody says it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping

from torch import Tensor

from paraexport.checkpoint.conventions.convention import is_index
from paraexport.checkpoint.given import truncated
from paraexport.checkpoint.stem import PROJECTION, stem_names
from paraexport.errors import CheckpointError

PLAIN = ("state_dict", "model_state_dict", "model", "net", "network", "module", "model_state", "weights", "params")
ONLINE = ("online_model", "online")
"""What ema-pytorch and others call the model beside its averaged copy."""
AVERAGED = re.compile(r"(?:^|_)(?:ema|swa|averaged|avg|shadow|polyak)(?:_|$)", re.IGNORECASE)
ALIKE = 0.5
"""Of the names of two state dicts, from where on both are taken for copies of one model."""


def is_averaged(word: str) -> bool:
    return AVERAGED.search(word) is not None


def choose_copy(names: Mapping[str, set[str]], name_of: Callable[[str], str]) -> tuple[str, str]:
    """(the copy that is meant, why), from the names of the tensors in each; no reason where there is no choice.

    Raises:
        CheckpointError: nothing tells which.
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
            f"several state dicts are in this checkpoint: {truncated([name_of(word) for word in candidates or names])}",
            remedy="give the one that is meant as --weights NAME",
        )
    chosen = candidates[0]
    if rest := [word for word in names if word != chosen]:
        kind = "the averaged copy under " if rest == averaged and len(rest) == 1 else ""
        listed = truncated([f"'{name_of(word)}'" for word in rest], 8)
        copies = [name_of(word) for word in rest if alike(names[word], names[chosen])]
        remedy = f"; to take it, give --weights {copies[0]}" if copies else ""
        return chosen, f"{kind}{listed} {'are' if len(rest) > 1 else 'is'} left out{remedy}"
    if chosen in averaged:
        return chosen, "only an averaged copy is in the file"
    return chosen, "" if chosen in PLAIN else "it is the only state dict in the file"


def alike(names: set[str], others: set[str]) -> bool:
    """Whether two state dicts hold the same parts of a model, whatever stands before their names."""
    ends = [{tail(name) for name in part} for part in (names, others)]
    return len(ends[0] & ends[1]) > ALIKE * max(len(part) for part in ends)


def tail(name: str) -> str:
    return ".".join(name.split(".")[-3:])


def copies_within(tensors: Mapping[str, Tensor], *, twins: bool = True) -> dict[str, dict[str, Tensor]]:
    """First word -> the tensors under it, for each copy in one state dict: `ema_model.`; as `twins`, `student.` and
    `teacher.` too, which hold the same names.

    The copy without a word of its own is under the empty word. Tensors in none of the copies stay with every copy.
    """
    groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        first, _, last = name.partition(".")
        if last and not is_index(first):
            groups[first][last] = tensor
    whole = {word for word, group in groups.items() if has_stem(group)}
    words = {word for word in whole if is_averaged(word)}
    if twins:
        words |= {
            word for word in whole if any(groups[word].keys() == groups[other].keys() for other in whole - {word})
        }
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
    """Whether these may be a whole model: the projection of patches is among them."""
    names = stem_names(tensors, frozenset(name.partition(".")[0] for name in tensors))
    return any(canonical.startswith(f"{PROJECTION}.") for canonical, _ in names.values())
