"""What one word of a config does here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["hf", "hf_images", "timm", "timm_model", "timm_images", "plain"]
"""Whose words a config uses: Hugging Face's two files, timm's with its two parts, or those of a training script."""
Effect = Literal["applied", "claimed", "only", "pixels", "labels", "reported", "nested", "nothing"]


@dataclass(frozen=True, kw_only=True)
class Word:
    """An entry of a table.

    - ``applied``: `read` turns the value into that of `field`; what it cannot read is refused.
    - ``claimed``: the same, but the weights settle `field`; a claim that differs from them is reported.
    - ``only``: any value but `usual` is refused, since no model of ours computes it.
    - ``pixels``: a part of the preprocessing, whose words are read together (`checkpoint.images`).
    - ``labels``: a name for each class; all such words are read together (`checkpoint.labels`).
    - ``reported``: any value but `usual` is reported, and not followed.
    - ``nested``: holds a config of the kind `inside`.
    - ``nothing``: changes neither the pixels nor the function.
    """

    effect: Effect
    field: str | None = None
    read: Callable[[Any], object] | None = None
    usual: tuple[object, ...] = ()
    settled_by: tuple[str, ...] = ()
    """The options that say what an unusual value does; without any, only the module itself can."""
    why: str = ""
    inside: Kind | None = None
    lenient: bool = False
    """Many programs use this name for other things: a value that cannot be read is reported, not refused."""


NOTHING = Word(effect="nothing")
PIXELS = Word(effect="pixels")
LABELS = Word(effect="labels")


def applied(field: str, read: Callable[[Any], object]) -> Word:
    return Word(effect="applied", field=field, read=read)


def claimed(field: str, read: Callable[[Any], object]) -> Word:
    return Word(effect="claimed", field=field, read=read)


def lenient(word: Word) -> Word:
    return Word(effect=word.effect, field=word.field, read=word.read, lenient=True)


def only(*usual: object, settled_by: tuple[str, ...] = ()) -> Word:
    return Word(effect="only", usual=usual, settled_by=settled_by)


def reported(*usual: object, why: str) -> Word:
    return Word(effect="reported", usual=usual, why=why)


def nested(inside: Kind) -> Word:
    return Word(effect="nested", inside=inside)


def each(names: Iterable[str], word: Word) -> dict[str, Word]:
    return dict.fromkeys(names, word)
