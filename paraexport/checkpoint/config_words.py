"""One word of a config, its labels, or what the name of a timm architecture stands for -> a `Reading`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from paraexport.checkpoint.labels import read_labels, repeated
from paraexport.checkpoint.reading import Reading, shown
from paraexport.checkpoint.words import TABLES, Kind, Word
from paraexport.checkpoint.words.timm import CLIP_EPS, implied
from paraexport.checkpoint.words.values import given_at_all

PASSED = frozenset({"branches", "depth", "channels", "patch_size", "norm"})
"""Claims that also help where names and shapes leave two readings."""
FUNCTION = frozenset({"residual", "activation", "pool", "norm", "eps", "heads", "head_dim"})
"""What a module that is there says of itself."""


def read_word(reading: Reading, text: str, word: Word, value: object) -> None:
    """Do with `value` what the table says of its word; `text` shows both in messages."""
    if word.effect in ("only", "reported"):
        if value is None or any(type(value) is type(usual) and value == usual for usual in word.usual):
            return
        if word.effect == "reported":
            reading.report(text, word.why)
        elif word.settled_by or not reading.module:
            reading.refuse(text, "is not supported", word.settled_by)
        return
    assert word.field is not None
    assert word.read is not None
    if value is None and word.read is not given_at_all:
        return
    try:
        read = word.read(value)
    except ValueError as error:
        unreadable(reading, text, word, str(error))
        return
    if word.effect == "applied":
        reading.say(word.field, read, text)
    else:
        reading.claim(word.field, read, text, passed=word.field in PASSED)


def unreadable(reading: Reading, text: str, word: Word, why: str) -> None:
    assert word.field is not None
    if word.lenient or word.effect == "claimed":
        reading.report(text, f"it {why}")
    elif not (reading.module and word.field in FUNCTION):
        reading.refuse(text, why, (word.field,))


def read_architecture(
    reading: Reading, source: str, name: object, levels: Iterable[tuple[str, Kind, Mapping[str, Any]]]
) -> None:
    """Apply what the name of a timm architecture stands for, where `model_args` says nothing else."""
    table = TABLES["timm_model"]
    said = {key for _, _, level in levels for key, value in level.items() if value is not None}
    for word, value in implied(name).items():
        if word not in said:
            read_word(
                reading, f"{source}: {shown('architecture', name)}, which has {shown(word, value)},", table[word], value
            )
    if isinstance(name, str) and CLIP_EPS.search(name[:200]):
        reading.say("eps", 1e-5, f"{source}: {shown('architecture', name)}, which has eps=1e-5")


def read_label_words(reading: Reading, source: str, words: Mapping[str, object], *, strict: bool) -> None:
    containers = {name: value for name, value in words.items() if isinstance(value, Mapping | list | tuple)}
    for name, value in words.items():
        if name in containers:
            continue
        if strict:
            reading.refuse(f"{source}: {shown(name, value)}", "holds no labels", ("labels",))
        else:
            reading.report(f"{source}: {shown(name, value)}", "it holds no labels")
    if not containers:
        return
    try:
        labels = read_labels(containers)
    except ValueError as error:
        reading.refuse(f"{source}: {error}", "", ("labels",), how="settle it with --spec labels=FILE")
        return
    if (doubles := repeated(labels)) is not None:
        reading.guesses.assume("labels", "as they are", f"{source}: {doubles}")
    reading.say("labels", labels, f"{source}: {', '.join(containers)}")
