"""Opens and verifies a bundle on disk, even if another process replaces it meanwhile."""

from __future__ import annotations

import dataclasses
import numbers
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from paraexport.bundle import manifest as manifests
from paraexport.bundle.opened import BUILD, BundleReplacedError, OpenFolder
from paraexport.bundle.records import Manifest
from paraexport.errors import BundleError, InputError, brief
from paraexport.system import claim
from paraexport.targets.folder import MANIFEST, FirstBranches, Folder

PATIENCE_S = 10.0
"""A bundle that is replaced again and again is read again for this long."""

LOOKS = 3
"""A path must be empty this often in a row before it counts as missing."""

LEAVE_OUT = "leave the number out"
T = TypeVar("T")


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files agree with its manifest."""

    path: Path
    """The path that the user gave. Another bundle may be there now."""
    manifest: Manifest
    opened: OpenFolder | None = field(default=None, repr=False, compare=False)
    """The handles of the verified files; None for a folder that no other process changes."""

    first: int | None = None
    """Use only the first branches: this many. None uses all."""

    @property
    def files(self) -> Folder:
        """The verified files. With `first`, the file of the model is the one with so many branches."""
        whole = self.opened or Folder(self.path)
        return whole if self.first is None else FirstBranches(whole, self.first)

    def with_branches(self, count: int | None) -> Self:
        """Return the same bundle with only the first `count` branches of the model.

        Raises:
            InputError: the bundle holds no model with so many branches.
        """
        spec = self.manifest.spec
        is_whole = isinstance(count, numbers.Integral) and not isinstance(count, bool)  # int, and those of NumPy
        if count is None or (spec is not None and is_whole and count == spec.branches):
            return self
        held = {model.branches: model for model in self.manifest.fewer_branches}
        if spec is None or not is_whole or count not in held:
            raise no_such_branches(self, count)
        model, count = held[count], int(count)
        manifest = dataclasses.replace(
            self.manifest,
            spec=dataclasses.replace(spec, branches=count),
            lowering=model.lowering,
            checks=model.checks,
            fewer_branches=(),
        )
        return dataclasses.replace(self, manifest=manifest, first=count)

    @property
    def size_bytes(self) -> int:
        """The size of all files, with the manifest."""
        return sum(file.size_bytes for file in self.manifest.files.values()) + len(manifests.encode(self.manifest))

    def require_unchanged(self) -> None:
        """Raise unless a runtime has read exactly the files that were verified.

        Raises:
            BundleReplacedError: the runtime may have read another file. Reading the bundle again resolves this.
            BundleError: another process writes to a file of the bundle.
        """
        if self.opened is not None:
            self.opened.require_unchanged()


def read_bundle(path: Path) -> Bundle:
    """Open the bundle at `path`, and verify that every file exists and has the sha256 in the manifest.

    While another process replaces the bundle, this returns the old one or the new one.

    Raises:
        BundleError: it is not a bundle, is incomplete or changed, or needs a newer paraexport.
    """
    return reading(path, lambda bundle: bundle)


def reading(path: Path, use: Callable[[Bundle], T]) -> T:
    """Return `use` of the bundle at `path`. If another process replaces it meanwhile, open the new one and try again.

    Raises:
        BundleError: as in `read_bundle`.
    """
    started_s = time.monotonic()
    while True:
        folder = open_folder(path)
        try:
            return use(verified(folder))
        except BundleReplacedError:
            folder.close()
            if time.monotonic() - started_s > PATIENCE_S:
                raise
        except BundleError:
            # If the bundle was just replaced, another process may be removing its files.
            if not folder.is_gone() or time.monotonic() - started_s > PATIENCE_S:
                raise
            folder.close()


def verified(folder: OpenFolder) -> Bundle:
    manifest = read_manifest_in(folder)
    for name in manifest.files:
        folder.open(name)  # open all files first: they stay readable if the bundle is replaced
    for name, entry in manifest.files.items():
        folder.verify(name, entry)
    folder.require_no_others()
    return Bundle(folder.path, manifest, folder)


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the bundle at `path` and verify its digest. No other file is read."""
    with open_folder(path) as folder:
        return read_manifest_in(folder)


def read_manifest_in(folder: OpenFolder) -> Manifest:
    try:
        content = folder.read_at_most(MANIFEST, manifests.MANIFEST_BYTES)
    except BundleError as error:
        if isinstance(error.__cause__ or error.__context__, FileNotFoundError):
            raise not_a_bundle(folder.path, expected=f"{MANIFEST} in it") from None
        raise
    return manifests.decode(content, folder.path / MANIFEST)


def open_folder(path: Path) -> OpenFolder:
    """Open the folder at `path`, or the old one if another process is replacing it or was killed meanwhile."""
    empty_looks = 0
    while empty_looks < LOOKS:
        for place in places(path):
            try:
                return OpenFolder(path, place)
            except BundleError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
        # The folder may have come back, or been replaced, between two looks.
        empty_looks = 0 if path.is_dir() else empty_looks + 1
    raise not_a_bundle(path, expected="a folder", got="nothing")


def places(path: Path) -> Iterator[Path]:
    """List the places of the bundle. The later ones are only reached if it is not at `path`."""
    yield path
    claim.repair(path)
    yield path
    if (old := claim.moved_aside(path)) is not None:
        yield old


def no_such_branches(bundle: Bundle, count: object) -> InputError:
    spec = bundle.manifest.spec
    counts = [model.branches for model in bundle.manifest.fewer_branches] + ([spec.branches] if spec else [])
    many = len(counts) > 1
    whole = f"all {counts[0]} branches" if counts and counts[0] > 1 else "its 1 branch" if counts else None
    can_build = spec is not None and isinstance(count, int) and 1 <= count < spec.branches
    return InputError(
        "the bundle has no model with this number of branches",
        where=bundle.path,
        expected=f"one of {', '.join(map(str, counts))}" if many else whole,
        got=brief(count),
        remedy="give one of these" if many else "build it with --branches-at-load" if can_build else LEAVE_OUT,
    )


def not_a_bundle(path: Path, *, expected: str, got: str | None = None) -> BundleError:
    return BundleError("not a bundle", where=path, expected=expected, got=got, remedy=BUILD)
