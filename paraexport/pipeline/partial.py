"""Loads a checkpoint although fields of its spec are open, to show everything that is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from paraexport.errors import OpenField, SpecError
from paraexport.pipeline import reading
from paraexport.pipeline.options import Reading

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint


def load_partly(path: Path, given: Reading) -> tuple[Checkpoint, tuple[OpenField, ...]]:
    """Load a checkpoint. Fields that it does not settle get any value that fits the weights.

    Returns the checkpoint and the open fields. Its values of these fields and of their dependents mean nothing.

    Raises:
        CheckpointError: as `load_checkpoint`.
        SpecError: as `load_checkpoint`, except for open fields.
    """
    fields: dict[str, OpenField] = {}
    while True:
        examples = {field.name: field.example for field in fields.values()}
        try:
            loaded = reading.load(path, dataclasses.replace(given, spec={**given.spec, **examples}))
        except SpecError as error:
            more = {field.name: field for field in error.open if field.name not in fields}
            if not more:
                raise
            fields |= more
        else:
            return loaded, tuple(fields.values())
