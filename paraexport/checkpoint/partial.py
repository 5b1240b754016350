"""Loads a checkpoint although fields of its spec are open, to show everything that is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from paraexport.checkpoint.load import Checkpoint, load_checkpoint
from paraexport.errors import OpenField, SpecError


def load_partly(
    path: Path, overrides: Mapping[str, str], *, module: str | None, weights: str | None, rename: Mapping[str, str]
) -> tuple[Checkpoint, tuple[OpenField, ...]]:
    """Load a checkpoint as `load_checkpoint` does. Fields that it does not settle get any value that fits the weights.

    Returns the checkpoint and the open fields. Its values of these fields and of their dependents mean nothing.

    Raises:
        CheckpointError: as `load_checkpoint`.
        SpecError: as `load_checkpoint`, except for open fields.
    """
    fields: dict[str, OpenField] = {}
    while True:
        examples = {field.name: field.example for field in fields.values()}
        try:
            loaded = load_checkpoint(
                path, overrides={**overrides, **examples}, module=module, weights=weights, rename=rename
            )
        except SpecError as error:
            more = {field.name: field for field in error.open if field.name not in fields}
            if not more:
                raise
            fields |= more
        else:
            return loaded, tuple(fields.values())
