"""Defines how one word of a config is treated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

ConfigKind = Literal["hf", "hf_images", "timm", "timm_model", "timm_images", "plain"]
"""The kind of a config: one of Hugging Face's two files, timm's file or its two parts, or that of a training script."""
Treatment = Literal["applied", "claimed", "only", "pixels", "labels", "reported", "nested", "nothing"]


@dataclass(frozen=True, kw_only=True)
class Word:
    """An entry of a table. The treatments are:

    - ``applied``: `read` converts the value to that of `field`. A value that it cannot read is refused.
    - ``claimed``: the same, but the weights settle `field`. A claim that contradicts them is reported.
    - ``only``: every value but `usual` is refused, since it is not supported.
    - ``pixels``: a part of the preprocessing. Such words are read together (`checkpoint.pixel_words`).
    - ``labels``: a name for each class. Such words are read together (`checkpoint.labels`).
    - ``reported``: every value but `usual` is reported and ignored.
    - ``nested``: contains a config of the kind `inside`.
    - ``nothing``: ignored, since it changes neither pixels nor the function.
    """

    treatment: Treatment
    field: str | None = None
    read: Callable[[Any], object] | None = None
    usual: tuple[object, ...] = ()
    settled_by: tuple[str, ...] = ()
    """The options that settle an unusual value. Without any, only --module helps."""
    why: str = ""
    inside: ConfigKind | None = None
    lenient: bool = False
    """Whether programs use this name for other things too. An unreadable value is then reported, not refused."""


NOTHING = Word(treatment="nothing")
PIXELS = Word(treatment="pixels")
LABELS = Word(treatment="labels")


def applied(field: str, read: Callable[[Any], object]) -> Word:
    return Word(treatment="applied", field=field, read=read)


def claimed(field: str, read: Callable[[Any], object]) -> Word:
    return Word(treatment="claimed", field=field, read=read)


def lenient(word: Word) -> Word:
    return Word(treatment=word.treatment, field=word.field, read=word.read, lenient=True)


def only(*usual: object, settled_by: tuple[str, ...] = ()) -> Word:
    return Word(treatment="only", usual=usual, settled_by=settled_by)


def reported(*usual: object, why: str) -> Word:
    return Word(treatment="reported", usual=usual, why=why)


def nested(inside: ConfigKind) -> Word:
    return Word(treatment="nested", inside=inside)


def each(names: Iterable[str], word: Word) -> dict[str, Word]:
    return dict.fromkeys(names, word)
