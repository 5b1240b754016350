"""Finds the accuracy that a training program has written into its checkpoint, such as `best_acc1`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from paraexport.checkpoint.contents import as_level

WORDS = re.compile(r"[^a-z0-9]+")
ACCURACY = frozenset({"acc", "acc1", "accuracy", "accuracy1", "top1", "prec1", "precision1"})
"""One of the words of a name must be one of these."""
OTHERS = frozenset({
    "acc", "accuracy", "best", "max", "highest", "val", "valid", "validation", "test", "eval", "top", "1", "metric",
    "metrics", "score", "model", "ema", "history", "result", "results", "callbacks", "modelcheckpoint",
})  # fmt: skip
"""All other words of a name, and of the names around it, must be one of these."""
CALLBACK_VALUE, CALLBACK_NAME = "best_model_score", "monitor"
"""How Lightning's ModelCheckpoint keeps its best score, and the name of that score."""
DEEPEST = 4
LONGEST = 200


@dataclass(frozen=True)
class RecordedAccuracy:
    name: str
    percent: float


def recorded_accuracy(content: object) -> RecordedAccuracy | None:
    """Return the highest accuracy in the checkpoint outside of its weights and configs; None if there is none.

    Training accuracy and top-5 accuracy do not count. A fraction up to 1 is a share; a number above 1 is in percent.
    """
    return max(accuracies(content, (), 0), key=lambda item: item.percent, default=None)


def accuracies(content: object, around: tuple[str, ...], depth: int) -> Iterator[RecordedAccuracy]:
    """All accuracies at this level and below. `around` are the names that lead to it."""
    level = as_level(content)
    if level is None or depth == DEEPEST:
        return
    for name, value in {**level, **lightning_score(level)}.items():
        path = ".".join((*around, name))
        if isinstance(value, dict):
            if all(map(is_harmless, words_of(name))):
                yield from accuracies(value, (*around, name), depth + 1)
        elif is_accuracy(path) and (percent := percent_of(value)) is not None:
            yield RecordedAccuracy(path[:LONGEST], percent)


def lightning_score(level: Mapping[str, Any]) -> dict[str, Any]:
    """`{"monitor": "val_acc", "best_model_score": 0.97}` -> `{"val_acc": 0.97}`."""
    name = level.get(CALLBACK_NAME)
    return {name: level.get(CALLBACK_VALUE)} if isinstance(name, str) else {}


def is_accuracy(name: str) -> bool:
    """Whether a name such as `best_acc1`, `val/accuracy` or `metrics.top_1` is that of top-1 accuracy."""
    words = words_of(name)
    pairs = {first + second for first, second in itertools.pairwise(words)}
    return bool(ACCURACY & ({*words} | pairs)) and all(map(is_harmless, words))


def is_harmless(word: str) -> bool:
    return word in ACCURACY or word in OTHERS


def words_of(name: str) -> list[str]:
    return [word for word in WORDS.split(name.lower()[:LONGEST]) if word]


def percent_of(value: object) -> float | None:
    """The accuracy in percent; None if the value is no number between 0 and 100, or the whole number 1."""
    if isinstance(value, Tensor):
        value = Tensor.item(value) if Tensor.numel(value) == 1 and not value.is_meta else None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 100:
        return None
    if isinstance(value, int):
        return float(value) if value > 1 else None
    return 100 * value if value <= 1 else value
