"""The checkpoints that paraexport's own training scripts write: weights with everything that is to know about them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch

from paraexport.checkpoint.blocks import MOST_ABSENT
from paraexport.checkpoint.given import Given, truncated
from paraexport.checkpoint.labels import as_labels
from paraexport.checkpoint.overrides import check_mean, check_std
from paraexport.errors import CheckpointError, SpecError
from paraexport.findings.words import option_text
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Preprocessing, Spec

Record = TypeVar("Record", Spec, Preprocessing)


def save_checkpoint(path: Path, model: ParaFormer, preprocessing: Preprocessing, labels: tuple[str, ...]) -> None:
    """Write `model` so that `load_checkpoint` needs no option and assumes nothing.

    Raises:
        SpecError: not one label a class.
    """
    if len(labels) != model.spec.classes:
        raise SpecError("labels do not fit the model", expected=f"{model.spec.classes} of them", got=len(labels))
    content = {
        "spec": dataclasses.asdict(model.spec),
        "preprocessing": dataclasses.asdict(preprocessing),
        "labels": list(labels),
        "state_dict": model.state_dict(),
    }
    torch.save(content, path)


@dataclasses.dataclass(frozen=True)
class Recorded:
    """What a checkpoint of our own says of itself."""

    spec: Spec
    preprocessing: Preprocessing | None
    labels: tuple[str, ...] | None

    def given(self) -> Given:
        """What it says of images and classes."""
        images = self.preprocessing
        if images is None:
            return Given(labels=self.labels)
        return Given(
            labels=self.labels,
            resize=images.resize,
            interpolation=images.interpolation,
            mean=images.mean,
            std=images.std,
        )

    def check_size(self, layers: int) -> None:
        """Raise a `CheckpointError` where far more layers are recorded than the weights have: each would be made."""
        if self.spec.branches * self.spec.depth > layers * (1 + MOST_ABSENT):
            raise CheckpointError(
                f"the record counts {self.spec.branches} branches of {self.spec.depth} layers,"
                f" and the weights have {layers} layers in all"
            )


def recorded(config: Mapping[str, Any]) -> Recorded | None:
    """The record in a checkpoint, or None where another program wrote it.

    Raises:
        CheckpointError: a record with unknown, missing or impossible fields.
    """
    if not isinstance(config.get("spec"), Mapping):
        return None
    spec = read_record(Spec, config["spec"], "spec")
    if problems := spec.problems():
        raise CheckpointError(f"the recorded spec contradicts itself: {'; '.join(problems)}")
    images, labels = config.get("preprocessing"), config.get("labels")
    preprocessing = read_record(Preprocessing, images, "preprocessing") if images is not None else None
    try:
        if preprocessing is not None:
            check_preprocessing(preprocessing, spec)
        return Recorded(spec, preprocessing, as_labels(labels) if labels is not None else None)
    except ValueError as error:
        raise CheckpointError(f"the recorded preprocessing or labels cannot be used: {error}") from error


def check_preprocessing(preprocessing: Preprocessing, spec: Spec) -> None:
    """Raise a ValueError where the images are not those of the model, or cannot be prepared so."""
    for field in ("image_size", "channels"):
        if getattr(preprocessing, field) != getattr(spec, field):
            made, taken = getattr(preprocessing, field), getattr(spec, field)
            raise ValueError(f"{field} is {option_text(made)} after preprocessing and {option_text(taken)} in the spec")
    check_mean(preprocessing.mean)
    check_std(preprocessing.std)
    sides = (preprocessing.resize,) if isinstance(preprocessing.resize, int) else preprocessing.resize
    if min(sides) < 1:
        raise ValueError(f"resize is {option_text(preprocessing.resize)}")


def read_record(kind: type[Record], record: object, name: str) -> Record:
    if not isinstance(record, Mapping):
        raise CheckpointError(f"the recorded {name} is no mapping", got=type(record).__name__)
    known = [field.name for field in dataclasses.fields(kind)]
    unknown = [name_of(key) for key in record if key not in known]
    if unknown:
        near = [match for key in unknown for match in difflib.get_close_matches(key, known, 1)]
        raise CheckpointError(
            f"unknown fields in the recorded {name}: {truncated(unknown)}",
            expected=", ".join(known),
            remedy=f"did you mean {', '.join(near)}?" if near else "remove them",
        )
    try:
        return msgspec.convert(dict(record), kind)
    except (msgspec.ValidationError, ValueError) as error:  # a ValueError for text that is not Unicode
        raise CheckpointError(f"the recorded {name} cannot be read: {error}") from error


def name_of(key: object) -> str:
    """A key as a message shows it: on one line, and not too long."""
    return key if isinstance(key, str) and key.isprintable() and len(key) <= 80 else f"{key!r:.80}"
