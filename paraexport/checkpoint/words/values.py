"""Converts values of configs to values of our fields. A ValueError refuses values that do not fit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from paraexport.checkpoint.given import CHOICES, Size
from paraexport.model.spec import ScoreWord, Spec

ACTIVATIONS: Mapping[str, str] = {
    **dict.fromkeys(("gelu", "gelu_python"), "gelu"),
    **dict.fromkeys(
        ("gelu_tanh", "gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh"), "gelu_tanh"
    ),
    "relu": "relu",
}
"""Names of activations in Hugging Face and timm -> ours. All others compute something else."""
POOLS: Mapping[str, str] = {"token": "cls", "cls": "cls", "avg": "patch_mean"}
"""timm's `global_pool`."""
INTERPOLATIONS: Mapping[object, str] = {
    **dict(enumerate(("nearest", "lanczos", "bilinear", "bicubic"))),
    **{name: name for name in CHOICES["interpolation"]},
}
"""Pillow's codes and names. `box` (4) and `hamming` (5) are not supported."""
PROBLEM_TYPES: Mapping[object, ScoreWord] = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "regression",
}
"""Hugging Face's `problem_type` -> the meaning of the outputs."""
LARGEST = 10**9
"""The largest count in a config. Numbers with thousands of digits are refused."""


def count(value: object) -> int:
    """3 or "3" -> 3."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,10}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
        raise ValueError("is not a whole number, 1 or more")
    return value


def scores(value: object) -> ScoreWord:
    if not isinstance(value, str) or value not in PROBLEM_TYPES:
        raise ValueError(f"is not supported, expected one of {', '.join(map(str, PROBLEM_TYPES))}")
    return PROBLEM_TYPES[value]


def truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false")  # noqa: TRY004
    return value


def given_at_all(value: object) -> bool:
    """Whether timm's `init_values` has a start value for LayerScale."""
    return value is not None and value is not False


def real(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e30 < value < 1e30:
        raise ValueError("is not a number")
    return float(value)


def positive(value: object) -> float:
    if (number := real(value)) <= 0:
        raise ValueError("is not a number above 0")
    return number


def part(value: object) -> float:
    """A number from 0.01 to 1, such as the part of an image that a crop keeps."""
    if not 0.01 <= (number := real(value)) <= 1:
        raise ValueError("is not supported, expected a number up to 1")
    return number


def fraction(value: object) -> float:
    """A number between 0 and 1, both excluded."""
    if not 0 < (number := real(value)) < 1:
        raise ValueError("is not a number between 0 and 1")
    return number


def numbers(value: object) -> tuple[float, ...]:
    """0.5 or [0.5, 0.4, 0.3] -> a tuple."""
    items = value if isinstance(value, list | tuple) else [value]
    if not items or len(items) > 1000:
        raise ValueError("is not a list of numbers")
    try:
        return tuple(real(item) for item in items)
    except ValueError:
        raise ValueError("is not a list of numbers") from None


def size(value: object) -> Size:
    """224, [224, 224], [3, 224, 224] or {"height": 224, "width": 224} -> (224, 224)."""
    if isinstance(value, Mapping):
        if value.keys() != {"height", "width"}:
            raise ValueError("is not a height and a width")
        value = [value["height"], value["width"]]
    if isinstance(value, list | tuple):
        if len(value) not in (2, 3):
            raise ValueError("is not a height and a width")
        return count(value[-2]), count(value[-1])
    return count(value), count(value)


def resize(value: object) -> Size | int:
    """`resize` in a training script: 256 is the shorter side, [256, 256] is height and width."""
    return size(value) if isinstance(value, list | tuple | Mapping) else count(value)


def choice(field: str, names: Mapping[Any, str] | None = None) -> Callable[[object], str]:
    """A reader for the choices of `field`. `names` maps the names of another program to ours."""

    def read(value: object) -> str:
        known = names if names is not None else {name: name for name in CHOICES[field]}
        meaning = known.get(value) if isinstance(value, str) else None
        if meaning is None:
            raise ValueError(f"is not supported, expected one of {', '.join(CHOICES[field])}")
        return meaning

    return read


activation = choice("activation", ACTIVATIONS)
pool = choice("pool", {**POOLS, **{name: name for name in CHOICES["pool"]}})


def interpolation(value: object) -> str:
    """3, "bicubic" or "PILImageResampling.BICUBIC" -> "bicubic"."""
    key = value.rpartition(".")[2].lower() if isinstance(value, str) else value
    if isinstance(key, bool) or not isinstance(key, str | int) or key not in INTERPOLATIONS:
        raise ValueError(f"is not supported, expected one of {', '.join(CHOICES['interpolation'])}")
    return INTERPOLATIONS[key]


def norm_first(value: object) -> str:
    """`norm_first` of torch.nn.TransformerEncoderLayer -> our `residual`."""
    return "input" if truth(value) else "post"


def mlp_ratio(value: object) -> Callable[[Spec], int]:
    """The ratio as a function from the spec, whose `dim` the weights settle, to `mlp_dim`."""
    ratio = real(value)
    return lambda spec: int(spec.dim * ratio)


def norm_behind(value: object) -> str | Callable[[Spec], str]:
    """timm's `fc_norm`: whether the last norm is after the pool. If it is, its name shows this too."""
    return (lambda _: "after") if truth(value) else "before"


def norm_at_all(value: object) -> Callable[[Spec], str]:
    """timm's `final_norm`: whether there is a last norm, at any place."""
    if not truth(value):
        return lambda _: "none"
    return lambda spec: "before or after" if spec.norm == "none" else spec.norm


def on_unit_scale(values: Sequence[float]) -> tuple[float, ...]:
    """Convert numbers from the 0..255 scale to the 0..1 scale, with at most 6 digits."""
    return tuple(float(f"{value / 255:.6g}") for value in values if math.isfinite(value))
