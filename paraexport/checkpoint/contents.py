"""Looks into the content of a checkpoint without trusting its objects, their methods or their depth."""

from __future__ import annotations

import argparse
import types
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from paraexport.errors import CheckpointError

MOST_WORDS = 300_000
"""The most values in the configs of a checkpoint."""
DEEPEST_WORDS = 20
MOST_NUMBERS = 4096
"""The most numbers of a tensor or array in a config."""


def as_level(value: object) -> dict[str, Any] | None:
    """A dict with string keys or a namespace, as a plain dict; None for anything else.

    Attributes that a pickle has set on a dict are left out.
    """
    if isinstance(value, argparse.Namespace | types.SimpleNamespace):
        value = vars(value)
    if not isinstance(value, dict):
        return None
    level = dict(dict.items(value))
    return level if all(isinstance(key, str) for key in level) else None


def holds_tensors(value: object) -> bool:
    """Whether these nested dicts contain a tensor."""
    return any(True for _ in tensors_in(value))


def holds_weights(value: object) -> bool:
    """Whether they contain a floating-point tensor with at least one dimension."""
    return any(Tensor.is_floating_point(tensor) and Tensor.dim(tensor) for tensor in tensors_in(value))


def tensors_in(value: object) -> list[Tensor]:
    """All tensors in nested dicts. Each dict is visited once, even if it contains itself."""
    pending, visited, tensors = [value], set(), []
    while pending:
        level = pending.pop()
        if isinstance(level, Tensor):
            tensors.append(level)
        elif id(level) not in visited and (inner := as_level(level)) is not None:
            visited.add(id(level))
            pending += inner.values()
    return tensors


def plain_words(value: object) -> Any:
    """A config as plain dicts, lists, text and numbers. Other values are left out.

    Raises:
        CheckpointError: it has more values or levels than any config needs.
    """
    left = MOST_WORDS

    def plain(value: object, above: tuple[int, ...]) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or len(above) > DEEPEST_WORDS:
            raise CheckpointError(
                "the config in this checkpoint is too large or too deep",
                expected=f"at most {MOST_WORDS} values, {DEEPEST_WORDS} levels deep",
                remedy="save the weights without it",
            )
        if value is None or isinstance(value, bool | int | float | str | np.generic):
            return value
        if isinstance(value, PurePath):
            return str(value)
        if isinstance(value, Tensor | np.ndarray):
            return plain(numbers_in(value), above)
        if isinstance(value, argparse.Namespace | types.SimpleNamespace):
            value = vars(value)
        if id(value) in above:
            return None  # it contains itself
        inner = (*above, id(value))
        if isinstance(value, dict):
            return {key: plain(item, inner) for key, item in dict.items(value) if isinstance(key, str | int)}
        if isinstance(value, list | tuple):
            return [plain(item, inner) for item in value]
        return None

    return plain(value, ())


def numbers_in(value: Tensor | NDArray[Any]) -> Any:
    """The numbers of a small tensor or array as lists, or None."""
    if isinstance(value, np.ndarray):
        return np.ndarray.tolist(value) if 0 < value.size <= MOST_NUMBERS else None
    if not 0 < Tensor.numel(value) <= MOST_NUMBERS:
        return None
    try:
        return Tensor.tolist(value)
    except (RuntimeError, TypeError):  # a sparse, quantised or meta tensor
        return None
