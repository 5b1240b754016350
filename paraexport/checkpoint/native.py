"""Writes and reads paraexport's own checkpoints. Their record contains everything about the model."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch

from paraexport.checkpoint.blocks import MOST_ABSENT
from paraexport.checkpoint.given import Given
from paraexport.checkpoint.labels import as_labels
from paraexport.checkpoint.overrides import check_mean, check_std
from paraexport.errors import CheckpointError, SpecError, shortlist
from paraexport.findings.words import option_text
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Preprocessing, Spec

Record = TypeVar("Record", Spec, Preprocessing)


def save_checkpoint(path: Path, model: ParaFormer, preprocessing: Preprocessing, labels: tuple[str, ...]) -> None:
    """Write `model` so that `load_checkpoint` needs no options and no assumptions.

    Raises:
        SpecError: the number of labels is not that of the classes.
    """
    if len(labels) != model.spec.classes:
        raise SpecError("labels do not fit the model", expected=f"{model.spec.classes} labels", got=len(labels))
    content = {
        "spec": dataclasses.asdict(model.spec),
        "preprocessing": dataclasses.asdict(preprocessing),
        "labels": list(labels),
        "state_dict": model.state_dict(),
    }
    torch.save(content, path)


@dataclasses.dataclass(frozen=True)
class Recorded:
    """The record in a checkpoint of paraexport's own."""

    spec: Spec
    preprocessing: Preprocessing | None
    labels: tuple[str, ...] | None

    def given(self) -> Given:
        """The fields about images and classes."""
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
        """Raise a `CheckpointError` if the record has far more layers than the weights. Each would take memory."""
        if self.spec.branches * self.spec.depth > layers * (1 + MOST_ABSENT):
            raise CheckpointError(
                f"the record has {self.spec.branches} branches of {self.spec.depth} layers,"
                f" but the weights have {layers} layers in all"
            )


def recorded(config: Mapping[str, Any]) -> Recorded | None:
    """Read the record of a checkpoint; None if another program wrote the checkpoint.

    Raises:
        CheckpointError: fields of the record are unknown, missing or impossible.
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
    """Raise a ValueError if the preprocessing does not fit the model, or is impossible."""
    for field in ("image_size", "channels"):
        if getattr(preprocessing, field) != getattr(spec, field):
            prepared, expected = (option_text(getattr(record, field)) for record in (preprocessing, spec))
            raise ValueError(f"{field} is {prepared} after preprocessing and {expected} in the spec")
    check_mean(preprocessing.mean)
    check_std(preprocessing.std)
    sides = (preprocessing.resize,) if isinstance(preprocessing.resize, int) else preprocessing.resize
    if min(sides) < 1:
        raise ValueError(f"resize is {option_text(preprocessing.resize)}")


def read_record(kind: type[Record], record: object, name: str) -> Record:
    if not isinstance(record, Mapping):
        raise CheckpointError(f"the recorded {name} is no mapping", got=type(record).__name__)
    known = [field.name for field in dataclasses.fields(kind)]
    unknown = [shown_key(key) for key in record if key not in known]
    if unknown:
        near = [match for key in unknown for match in difflib.get_close_matches(key, known, 1)]
        raise CheckpointError(
            f"unknown fields in the recorded {name}: {shortlist(unknown)}",
            expected=", ".join(known),
            remedy=f"did you mean {', '.join(near)}?" if near else "remove them",
        )
    try:
        return msgspec.convert(dict(record), kind)
    except (msgspec.ValidationError, ValueError) as error:  # ValueError: a text is not Unicode
        raise CheckpointError(f"the recorded {name} cannot be read: {error}") from error


def shown_key(key: object) -> str:
    """A key for a message: on one line, and not too long."""
    return key if isinstance(key, str) and key.isprintable() and len(key) <= 80 else f"{key!r:.80}"
