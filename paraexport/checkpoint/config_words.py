"""Reads one word of a config, its labels, or the name of a timm architecture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from paraexport.checkpoint.config_reading import ConfigReading, shown
from paraexport.checkpoint.labels import read_labels, repeated
from paraexport.checkpoint.words import TABLES, ConfigKind, Word
from paraexport.checkpoint.words.timm import CLIP_EPS, implied
from paraexport.checkpoint.words.values import given_at_all

PASSED = frozenset({"branches", "depth", "channels", "patch_size", "norm"})
"""Claims that are also used if names and shapes are ambiguous."""
FUNCTION = frozenset({"residual", "activation", "pool", "norm", "eps", "heads", "head_dim"})
"""Fields that a given module settles itself."""


def read_word(reading: ConfigReading, text: str, word: Word, value: object) -> None:
    """Treat `value` as the table says for its word. `text` shows both in messages."""
    if word.treatment in ("only", "reported"):
        if value is None or any(type(value) is type(usual) and value == usual for usual in word.usual):
            return
        if word.treatment == "reported":
            reading.report(text, word.why)
        elif word.settled_by or not reading.module:
            reading.refuse(text, "is not supported", word.settled_by)
        return
    assert word.field is not None
    assert word.read is not None
    if value is None and word.read is not given_at_all:
        return
    try:
        parsed = word.read(value)
    except ValueError as error:
        unreadable(reading, text, word, str(error))
        return
    if word.treatment == "applied":
        reading.apply(word.field, parsed, text)
    else:
        reading.claim(word.field, parsed, text, passed=word.field in PASSED)


def unreadable(reading: ConfigReading, text: str, word: Word, why: str) -> None:
    assert word.field is not None
    if word.lenient or word.treatment == "claimed":
        reading.report(text, f"it {why}")
    elif not (reading.module and word.field in FUNCTION):
        reading.refuse(text, why, (word.field,))


def read_architecture(
    reading: ConfigReading, source: str, name: object, levels: Iterable[tuple[str, ConfigKind, Mapping[str, Any]]]
) -> None:
    """Apply the words that the name of a timm architecture implies, unless `model_args` contains them."""
    table = TABLES["timm_model"]
    stated = {key for _, _, level in levels for key, value in level.items() if value is not None}
    for word, value in implied(name).items():
        if word not in stated:
            read_word(
                reading, f"{source}: {shown('architecture', name)}, which has {shown(word, value)},", table[word], value
            )
    if isinstance(name, str) and CLIP_EPS.search(name[:200]):
        reading.apply("eps", 1e-5, f"{source}: {shown('architecture', name)}, which has eps=1e-5")


def read_label_words(reading: ConfigReading, source: str, words: Mapping[str, object], *, strict: bool) -> None:
    containers = {name: value for name, value in words.items() if isinstance(value, Mapping | list | tuple)}
    for name, value in words.items():
        if name in containers:
            continue
        if strict:
            reading.refuse(f"{source}: {shown(name, value)}", "contains no labels", ("labels",))
        else:
            reading.report(f"{source}: {shown(name, value)}", "it contains no labels")
    if not containers:
        return
    try:
        labels = read_labels(containers)
    except ValueError as error:
        reading.refuse(f"{source}: {error}", "", ("labels",), how="settle it with --spec labels=FILE")
        return
    if (doubles := repeated(labels)) is not None:
        reading.guesses.assume("labels", "as they are", f"{source}: {doubles}")
    reading.apply("labels", labels, f"{source}: {', '.join(containers)}")
