"""What a config beside or inside the checkpoint says, under the names that the field uses."""

from __future__ import annotations

import argparse
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from paraexport.checkpoint.given import CHOICES, Given
from paraexport.checkpoint.overrides import as_labels, check_mean, check_std
from paraexport.errors import SpecError

CONFIG_KEYS = ("config", "args", "hparams", "hyper_parameters", "model_args", "model_config", "cfg", "opt", "spec")
"""Under which a checkpoint keeps the words about it."""
NESTED = (*CONFIG_KEYS, "model", "pretrained_cfg", "preprocessing", "data")

ALIASES: Mapping[str, tuple[str, ...]] = {
    "image_size": ("image_size", "img_size", "input_size", "crop_size"),
    "channels": ("channels", "num_channels", "in_chans", "in_channels"),
    "patch_size": ("patch_size",),
    "branches": ("branches", "num_branches", "n_branches"),
    "depth": ("depth", "num_hidden_layers", "num_layers", "n_layers"),
    "heads": ("heads", "num_heads", "num_attention_heads", "nhead", "n_heads", "n_head"),
    "head_dim": ("head_dim", "dim_head"),
    "residual": ("residual",),
    "activation": ("hidden_act", "activation", "act"),
    "pool": ("pool", "global_pool"),
    "eps": ("layer_norm_eps", "norm_eps"),
    "resize": ("resize", "size"),
    "interpolation": ("interpolation", "resample"),
    "mean": ("mean", "image_mean"),
    "std": ("std", "image_std"),
    "labels": ("labels", "id2label", "label_names", "class_names"),
}
WORDY = frozenset({"resize", "interpolation", "mean", "std", "labels"})
"""Fields whose names mean other things in many configs: what is no value for them is not about them."""
MEANINGS: Mapping[str, Mapping[object, str]] = {
    "activation": {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"},
    "pool": {"token": "cls", "avg": "patch_mean"},
    "interpolation": {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"},
}
"""What other programs call our choices."""


def as_mapping(value: object) -> Mapping[str, Any] | None:
    """A config as it is met: a dict with string keys, or an argparse/types namespace."""
    if isinstance(value, argparse.Namespace | types.SimpleNamespace):
        return vars(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return value
    return None


def parse_config(config: Mapping[str, Any], *, already: Given) -> Given:
    """Take from `config` what `already` does not say; keys of no meaning here are another program's business.

    Raises:
        SpecError: a value that no Para-Former of this package can have, e.g. hidden_act=quick_gelu.
    """
    values: dict[str, object] = {}
    problems: list[str] = []
    taken = already.settled()
    levels = list(flatten(config))
    for field, aliases in ALIASES.items():
        said = [(name, level[name]) for name in aliases for level in levels if level.get(name) is not None]
        if field in taken or not said:
            continue
        name, value = said[0]
        try:
            values[field] = READERS.get(field, count)(value) if field not in CHOICES else choice(field, value)
        except (ValueError, TypeError) as error:
            if field not in WORDY:
                problems.append(f"{name}={value!r} {error} (settle it with --spec {field}=…)")
    problems += unsupported(levels, taken)
    if any(level.get("do_normalize") is False for level in levels):
        values |= {name: value for name, value in (("mean", (0.0,)), ("std", (1.0,))) if name not in taken}
    if problems:
        raise SpecError("the checkpoint's config: " + "; ".join(problems))
    return cropped(Given(**values), levels)  # type: ignore[arg-type]


def unsupported(levels: list[Mapping[str, Any]], taken: Mapping[str, object]) -> Iterator[str]:
    """Steps of Hugging Face's preprocessing that ours has not, unless the options settle what they would do."""
    said = {name: value for level in reversed(levels) for name, value in level.items()}
    if not {"mean", "std"} <= taken.keys() and (
        said.get("do_rescale") is False or not is_255th(said.get("rescale_factor"))
    ):
        yield "pixels on another scale than 0..1 (settle it with --spec mean=… --spec std=… on the 0..1 scale)"
    if "resize" not in taken and said.get("do_resize") is False:
        yield "do_resize=false (settle it with --spec resize=…)"


def is_255th(factor: object) -> bool:
    return factor is None or (isinstance(factor, float | int) and abs(factor * 255 - 1) < 1e-3)


def cropped(given: Given, levels: list[Mapping[str, Any]]) -> Given:
    """timm's crop_pct: the shorter side becomes image_size / crop_pct, then the centre is cut out."""
    if any(level.get("crop_mode") == "squash" for level in levels) and given.resize is None:
        return Given(resize=given.image_size).over(given)
    fractions = [level["crop_pct"] for level in levels if isinstance(level.get("crop_pct"), float | int)]
    if given.resize is not None or given.image_size is None or not fractions or not 0 < fractions[0] <= 1:
        return given
    return Given(resize=int(min(given.image_size) / fractions[0])).over(given)


def flatten(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield config
    for key in NESTED:
        if (nested := as_mapping(config.get(key))) is not None:
            yield from flatten(nested)


def count(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("is not a whole number, 1 or more")
    return value


def choice(field: str, value: object) -> str:
    meaning = MEANINGS.get(field, {}).get(value, value)
    if meaning not in CHOICES[field]:
        raise ValueError(f"is not supported, expected one of {', '.join(CHOICES[field])}")
    return str(meaning)


def size(value: object) -> tuple[int, int]:
    """224, [224, 224], [3, 224, 224] or {"height": 224, "width": 224} -> (224, 224)."""
    if (named := as_mapping(value)) is not None and {"height", "width"} <= named.keys():
        value = [named["height"], named["width"]]
    if isinstance(value, list | tuple) and len(value) in (2, 3):
        return count(value[-2]), count(value[-1])
    return count(value), count(value)


def resize(value: object) -> tuple[int, int] | int:
    named = as_mapping(value)
    if named is not None and "shortest_edge" in named:
        return count(named["shortest_edge"])
    return size(value) if named is not None or isinstance(value, list | tuple) else count(value)


def number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ValueError("is not a number between 0 and 1")
    return float(value)


def numbers(value: object) -> tuple[float, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    found = tuple(float(item) for item in items if isinstance(item, int | float))
    if not found or len(found) < len(items):
        raise ValueError("is not a list of numbers")
    return found


READERS: Mapping[str, Callable[[Any], object]] = {
    "image_size": size,
    "patch_size": size,
    "resize": resize,
    "eps": number,
    "mean": lambda value: check_mean(numbers(value)),
    "std": lambda value: check_std(numbers(value)),
    "labels": as_labels,
}
