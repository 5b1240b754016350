"""Finds the accuracy that a training program has written into its checkpoint, such as `best_acc1`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from paraexport.checkpoint.contents import as_level

ACCURACY = re.compile(r"acc(uracy)?(1|_1)?|(top|prec|precision|acc|accuracy)(@|_)?1(_?acc(uracy)?)?")
"""A whole name once the words of `BEFORE` are removed."""
BEFORE = re.compile(r"^(best|max|highest|val|valid|validation|test|eval|top|metric|metrics|score|model)[_/. -]+")
CALLBACK_VALUE, CALLBACK_NAME = "best_model_score", "monitor"
"""How Lightning's ModelCheckpoint keeps its best score, and the name of that score."""
DEEPEST = 4


@dataclass(frozen=True)
class RecordedAccuracy:
    name: str
    percent: float


def recorded_accuracy(content: object) -> RecordedAccuracy | None:
    """Return the highest accuracy in the checkpoint outside of its weights; None if there is none.

    Training accuracy and top-5 accuracy do not count. A number up to 1 is a share, and up to 100 a percentage.
    """
    values = [RecordedAccuracy(name, percent) for name, percent in accuracies(content, 0)]
    return max(values, key=lambda item: item.percent, default=None)


def accuracies(content: object, depth: int) -> Iterator[tuple[str, float]]:
    level = as_level(content)
    if level is None or depth == DEEPEST:
        return
    named = {**level, **lightning_score(level)}
    for name, value in named.items():
        if is_accuracy(name) and (percent := percent_of(value)) is not None:
            yield name, percent
        elif isinstance(value, dict):
            yield from accuracies(value, depth + 1)


def lightning_score(level: Mapping[str, Any]) -> dict[str, Any]:
    """`{"monitor": "val_acc", "best_model_score": 0.97}` -> `{"val_acc": 0.97}`."""
    name = level.get(CALLBACK_NAME)
    return {name: level.get(CALLBACK_VALUE)} if isinstance(name, str) else {}


def is_accuracy(name: str) -> bool:
    """Whether a name such as `best_acc1`, `val/accuracy` or `metrics.top_1` is that of top-1 accuracy."""
    rest = name.lower().strip()[:80]
    while ACCURACY.fullmatch(rest) is None:
        shorter = BEFORE.sub("", rest, count=1)
        if shorter == rest:
            return False
        rest = shorter
    return True


def percent_of(value: object) -> float | None:
    """The accuracy in percent; None if the value is no number between 0 and 100."""
    if isinstance(value, Tensor):
        value = Tensor.item(value) if Tensor.numel(value) == 1 and not value.is_meta else None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return (100.0 * value if value <= 1 else float(value)) if 0 < value <= 100 else None
