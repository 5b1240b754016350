"""Reads the configs inside and beside a checkpoint. Every word is applied, refused, reported or ignored."""

from __future__ import annotations

import argparse
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from torch import Tensor

from paraexport.checkpoint.config_files import CONFIG_FILES
from paraexport.checkpoint.config_reading import PARTLY, ConfigReading, shown
from paraexport.checkpoint.config_words import read_architecture, read_label_words, read_word
from paraexport.checkpoint.given import Given, Guesses
from paraexport.checkpoint.pixel_words import read_pixel_words
from paraexport.checkpoint.words import TABLES, ConfigKind
from paraexport.checkpoint.words.word import Word
from paraexport.findings.words import option_text
from paraexport.model.spec import Classifier, Spec

CONFIG_KEYS = ("config", "args", "hparams", "hyper_parameters", "model_args", "model_config", "cfg", "opt", "spec")
"""The keys under which a checkpoint keeps its config."""
OPTIMIZER_WORDS = frozenset(["lr", "learning_rate", "betas", "momentum", "weight_decay", "wd", "optimizer", "optim"])
OPTIMIZERS = ("adam", "sgd", "rmsprop", "lamb", "lion", "adagrad")
LARGEST_IMAGE = 8192
"""In pixels. A larger `size` in the config of a training script is something else."""
DEEPEST = 6
"""The most levels of nested configs."""
Level = tuple[str, ConfigKind, Mapping[str, Any]]
"""One level of a config: its source, its kind and its words."""


@dataclass(frozen=True)
class Config:
    """The fields and claims of all configs."""

    given: Given
    claims: tuple[tuple[str, object, str], ...]
    """Statements about fields that the weights settle: (field, value or a function of the spec, the words)."""

    def compare(self, known: Classifier, guesses: Guesses) -> None:
        """Report each claim that differs from the weights."""
        for field, value, words in self.claims:
            if not hasattr(known, field):
                continue
            settled, claim = getattr(known, field), value
            if callable(claim):
                claim = claim(known) if isinstance(known, Spec) else settled
            layers = isinstance(known, Spec) and field == "depth" and claim == known.depth * known.branches
            if claim != settled and not layers:
                weights = f"{field} is {option_text(settled)} in the weights"
                guesses.assume("config", PARTLY, f"{words} is ignored: {weights}")


def as_mapping(value: object) -> Mapping[str, Any] | None:
    """A config: a dict with string keys, or the fields of a namespace. None for other values."""
    if isinstance(value, argparse.Namespace | types.SimpleNamespace):
        return vars(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return value
    return None


def parse_config(config: Mapping[str, Any], *, already: Given, guesses: Guesses, module: bool = False) -> Config:
    """Read the fields that options have not settled.

    Args:
        config: each config by the name of its file, or by its key in the checkpoint.
        already: the fields from options. They take precedence.
        guesses: gets an assumption for each word that is ignored although it may matter.
        module: the model comes as a module, so words about its function do not matter.

    Raises:
        SpecError: words change pixels or the function of the model in an unsupported way. The message lists all of
            them, with the options that settle them.
    """
    reading = ConfigReading(already.settled(), guesses, module=module)
    for source, content in sources(config):
        read_source(reading, source, content)
    return Config(*reading.result())


def sources(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The configs inside the checkpoint, then the files beside it, the more specific one first."""
    loose = {}
    for name, value in config.items():
        if name in CONFIG_FILES:
            continue
        content = as_mapping(value)
        if name not in (*CONFIG_KEYS, "preprocessing"):
            loose[name] = value
        elif content is not None:
            yield f"the checkpoint's {name}", content
    if loose:
        yield "the checkpoint", loose
    for name in reversed(CONFIG_FILES):
        if (content := as_mapping(config.get(name))) is not None:
            yield name, content


def kind_of(source: str, content: Mapping[str, Any]) -> ConfigKind:
    """The program that wrote this config."""
    if {"image_processor_type", "feature_extractor_type"} & content.keys() or source == "preprocessor_config.json":
        return "hf_images"
    if isinstance(content.get("architecture"), str) or as_mapping(content.get("pretrained_cfg")) is not None:
        return "timm"
    if {"model_type", "architectures", "transformers_version"} & content.keys():
        return "hf"
    return "plain"


def read_source(reading: ConfigReading, source: str, content: Mapping[str, Any]) -> None:
    kind = kind_of(source, content)
    levels = list(flatten(source, kind, content, (), 0))
    if kind == "timm":
        levels = without_overridden_size(levels)
        read_architecture(reading, source, content.get("architecture"), levels)
    together: dict[str, dict[str, object]] = {"pixels": {}, "labels": {}}
    for name, level_kind, level in levels:
        for key, value in level.items():
            word = TABLES[level_kind].get(key)
            if word is None or (level_kind == "plain" and is_doubtful(key, word, value, level)):
                reading.unknown(name, key, value)
            elif word.treatment in together and value is not None:
                together[word.treatment].setdefault(key, value)
            elif word.field is not None or word.treatment in ("only", "reported"):
                read_word(reading, f"{name}: {shown(key, value)}", word, value)
    read_pixel_words(reading, source, kind, together["pixels"])
    if together["labels"] and "labels" not in reading.taken:
        read_label_words(reading, source, together["labels"], strict=kind != "plain")


def is_doubtful(key: str, word: Word, value: object, level: Mapping[str, object]) -> bool:
    """Whether a word of a training script may have another meaning than in its table.

    An `eps` next to the words of an optimizer may belong to the optimizer. A large `size` may be that of a data set.
    Words that only affect training, such as `val`, may contain the preprocessing.
    """
    if key == "eps":
        return bool(OPTIMIZER_WORDS & level.keys()) or str(level.get("name", "")).lower().startswith(OPTIMIZERS)
    if key == "size":
        return isinstance(value, int) and value > LARGEST_IMAGE
    inner = as_mapping(value) if word.treatment == "nothing" and key not in OPTIMIZER_WORDS else None
    known = (TABLES["plain"].get(name) for name in inner or () if name != "eps")
    return any(entry is not None and (entry.treatment == "pixels" or entry.field is not None) for entry in known)


def flatten(
    source: str, kind: ConfigKind, content: Mapping[str, Any], above: tuple[int, ...], depth: int
) -> Iterator[Level]:
    """Every level of a config, outer levels first, with plain Python values."""
    yield source, kind, {key: simple(value) for key, value in content.items()}
    for key, value in content.items():
        word, inner = TABLES[kind].get(key), as_mapping(value)
        if word is None or word.inside is None or inner is None:
            continue
        if id(inner) not in above and depth < DEEPEST:  # pickled configs may contain themselves
            yield from flatten(source, word.inside, inner, (*above, id(content)), depth + 1)


def without_overridden_size(levels: list[Level]) -> list[Level]:
    """Leave out timm's `input_size` if `img_size` in `model_args` overrides it, as in timm."""
    words = {key: value for _, _, level in levels for key, value in level.items()}
    if words.get("fixed_input_size") is True and words.get("img_size") is not None:
        return [(name, kind, {k: v for k, v in level.items() if k != "input_size"}) for name, kind, level in levels]
    return levels


@dataclass(frozen=True)
class Foreign:
    """A value of a class that no word accepts. It equals nothing."""

    kind: str


def simple(value: object, depth: int = DEEPEST) -> object:
    """Convert numbers of NumPy and torch to Python's, paths to text, and unknown values to `Foreign`."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray | Tensor) and value.ndim <= 1 and value.shape[:1] <= (16,):
        try:
            value = value.tolist()
        except (RuntimeError, NotImplementedError, TypeError):  # a meta or sparse tensor
            return Foreign(type(value).__name__)
    if isinstance(value, list | tuple) and depth:
        return [simple(item, depth - 1) for item in value]
    if isinstance(value, str | int | float | list | tuple | Mapping | None):
        return value
    return str(value) if isinstance(value, PurePath) else Foreign(type(value).__name__)
