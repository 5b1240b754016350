"""Checks whether a checkpoint fits a bundle, and whether the bundle was built from it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from paraexport.bundle.records import Manifest
from paraexport.checkpoint.shards import checkpoint_digest
from paraexport.errors import InputError
from paraexport.model.branch_choice import BranchChoice
from paraexport.pipeline.options import Options
from paraexport.timing.clock import Progress

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint


def require_module(manifest: Manifest, options: Options) -> None:
    """Require `--module` if the bundle was built with it: code runs only if the user names it, not the bundle.

    Raises:
        InputError: the bundle was built with `--module`, but no module is given now.
    """
    if manifest.source.module is not None and options.module is None:
        raise InputError(
            "the bundle was built with --module",
            where="--module",
            expected=f"the function that made the model, {manifest.source.module}",
            got="none",
            remedy=f"give --module PATH/TO/{manifest.source.module}",
        )


class SourceFile:
    """A checkpoint that is compared with the one that a bundle was built from. It is hashed once, when needed."""

    def __init__(self, file: Path, manifest: Manifest) -> None:
        self.file, self.source = file, manifest.source

    @functools.cached_property
    def is_the_one(self) -> bool:
        """Whether the bundle was built from this file."""
        return checkpoint_digest(self.file) == self.source.sha256

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """If the checkpoint does not fit the bundle, report whether the bundle was built from another file."""
        try:
            yield
        except InputError as error:
            if self.source.module is not None or self.is_the_one:
                raise
            raise InputError(
                "this is not the checkpoint that the bundle was built from, and it does not fit",
                where=self.file,
                expected=f"{self.source.name}, sha256 {self.source.sha256}",
                remedy="give that file, or build a bundle from this one",
            ) from error

    def warn_of_another(self, warn: Progress) -> None:
        """Warn before a comparison with another file than the bundle was built from."""
        if not self.is_the_one:
            warn(f"{self.file.name} is not the file that the bundle was built from, {self.source.name}")


def kept_branches(manifest: Manifest) -> BranchChoice | None:
    """Return the `--branches` option of the build. Older bundles only record how many branches they have."""
    if manifest.source.branches is not None:
        return manifest.source.branches
    return manifest.spec.branches if manifest.spec else None


def built_with(manifest: Manifest) -> dict[str, str]:
    """Return the `--spec` options of the build without the file of labels: the manifest already has the labels."""
    return {name: value for name, value in manifest.source.overrides.items() if name != "labels"}


def require_same_shapes(loaded: Checkpoint, manifest: Manifest, checkpoint: Path) -> None:
    model = loaded.classifier
    got = ([model.channels, *model.image_size], model.classes)
    expected = (list(manifest.inputs[0].shape[1:]), manifest.outputs[0].shape[1])
    if got != expected:
        raise InputError(
            "the checkpoint and the bundle hold different models",
            where=checkpoint,
            expected=f"images {expected[0]} and {expected[1]} classes",
            got=f"images {got[0]} and {got[1]} classes",
        )
