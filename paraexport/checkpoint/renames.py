"""Renames the tensors of a checkpoint as `--rename OLD=NEW` asks."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import re
from collections.abc import Mapping

from torch import Tensor

from paraexport.checkpoint.names import kinds
from paraexport.checkpoint.wrappers import Weights
from paraexport.errors import SpecError, shortlist

STAR = "*"
SHOWN = 4


def renamed(weights: Weights, renames: Mapping[str, str]) -> Weights:
    """Replace the words OLD by NEW in all names of tensors, one pair after the other.

    OLD is a whole name, or some of its words in a row: `towers` or `attn.qkv`, but not `tower` for `towers.0`. `*`
    stands for a part of a word, such as its number: `{"tower*": "branches.*"}` renames `tower3.…` to `branches.3.…`.

    Raises:
        SpecError: no name contains OLD, two names become equal, or NEW has another number of `*` than OLD.
    """
    for old, new in renames.items():
        weights = dataclasses.replace(weights, tensors=rename_one(weights.tensors, old, new))
    return weights


def rename_one(tensors: Mapping[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    where = f"--rename {old}={new}"
    if not all(words and ".." not in f".{words}." for words in (old, new)):
        raise SpecError("a word of a name is empty", where=where, remedy="give names such as --rename towers=branches")
    if any(word.count(STAR) > 1 for word in old.split(".")):
        raise SpecError("a word has more than one *", where=where, remedy="give one * for each word at most")
    if new.count(STAR) != old.count(STAR):
        raise SpecError("each * of the old name needs one in the new name", where=where, expected=old.count(STAR))
    pattern = re.compile(rf"(?<![^.]){re.escape(old).replace(re.escape(STAR), '([^.]*)')}(?![^.])")

    def replacement(match: re.Match[str]) -> str:
        parts = new.split(STAR)
        return "".join(itertools.chain(*zip(parts, (*match.groups(), ""), strict=True)))

    names = {name: pattern.sub(replacement, name) for name in tensors}
    if not any(map(pattern.search, names)):
        raise SpecError(
            "no name of a tensor contains these words",
            where=where,
            expected="a name, or some of its words in a row",
            got=nearest(old, [*tensors]),
            remedy="check the spelling; words before all names, such as `model.`, are removed first",
        )
    first: dict[str, str] = {}
    for name, renamed in names.items():
        if renamed in first:
            got = f"{first[renamed]} and {name} both become {renamed}"
            raise SpecError("two tensors get the same name", where=where, got=got, remedy="use a more exact name")
        first[renamed] = name
    return {names[name]: tensor for name, tensor in tensors.items()}


def nearest(old: str, names: list[str]) -> str:
    """The words that are most like `old`, or one name of each kind."""
    runs = {run for name in names for run in runs_of(name, old.count(".") + 1)}
    return shortlist(difflib.get_close_matches(old, sorted(runs), n=SHOWN) or kinds(names), SHOWN)


def runs_of(name: str, count: int) -> list[str]:
    """Every `count` words in a row."""
    words = name.split(".")
    return [".".join(words[start : start + count]) for start in range(len(words) - count + 1)]
