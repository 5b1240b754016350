"""A bundle on disk -> a verified `Bundle`, whatever happens to the folder in the meantime."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from paraexport.bundle import manifest as manifests
from paraexport.bundle.opened import BUILD, BundleReplacedError, OpenFolder
from paraexport.bundle.records import Manifest
from paraexport.errors import BundleError
from paraexport.system import claim
from paraexport.targets.folder import MANIFEST, Folder

PATIENCE_S = 10.0
"""For how long a bundle that is replaced again and again is read again."""

LOOKS = 3
"""How often nothing must be found at a path before it is believed."""

T = TypeVar("T")


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are as its manifest says."""

    path: Path
    """As the user names it; what it holds now may be another bundle."""
    manifest: Manifest
    opened: OpenFolder | None = field(default=None, repr=False, compare=False)
    """The handles of the files that were verified; None for a folder that nobody else writes to."""

    @property
    def files(self) -> Folder:
        """The files that were verified."""
        return self.opened or Folder(self.path)

    @property
    def size_bytes(self) -> int:
        """Of all files, the manifest included."""
        return sum(file.size_bytes for file in self.manifest.files.values()) + len(manifests.encode(self.manifest))

    def require_unchanged(self) -> None:
        """Raise unless what a runtime has read by now is what was verified.

        Raises:
            BundleReplacedError: another file may have been read, which reading the bundle again will settle.
            BundleError: somebody writes into a file of the bundle.
        """
        if self.opened is not None:
            self.opened.require_unchanged()


def read_bundle(path: Path) -> Bundle:
    """Open and verify the bundle at `path`: every file is there, and its sha256 is the manifest's.

    While another process replaces the bundle this gives the old one or the new one.

    Raises:
        BundleError: it is no bundle, is incomplete or changed, or needs a newer paraexport.
    """
    return reading(path, lambda bundle: bundle)


def reading(path: Path, use: Callable[[Bundle], T]) -> T:
    """`use` of the bundle at `path`, with the next one there where another process replaces it too early.

    Raises:
        BundleError: as `read_bundle`.
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
            # The files of a bundle that was replaced a moment ago are being removed.
            if not folder.is_gone() or time.monotonic() - started_s > PATIENCE_S:
                raise
            folder.close()


def verified(folder: OpenFolder) -> Bundle:
    manifest = read_manifest_in(folder)
    for name in manifest.files:
        folder.open(name)  # all of them first: what is open stays readable when the bundle is replaced
    for name, entry in manifest.files.items():
        folder.verify(name, entry)
    folder.require_no_others()
    return Bundle(folder.path, manifest, folder)


def read_manifest(path: Path) -> Manifest:
    """The manifest of the bundle at `path`, its own digest verified; no other file is read."""
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
    """The folder at `path`; or what was there, where another process is replacing it or was killed while it did."""
    looks_in_vain = 0
    while looks_in_vain < LOOKS:
        for place in places(path):
            try:
                return OpenFolder(path, place)
            except BundleError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
        # It may have come back, or been replaced, between two looks.
        looks_in_vain = 0 if path.is_dir() else looks_in_vain + 1
    raise not_a_bundle(path, expected="a folder", got="nothing")


def places(path: Path) -> Iterator[Path]:
    """Where the bundle may be, the second and third asked for only when it is not at `path`."""
    yield path
    claim.repair(path)
    yield path
    if (old := claim.moved_aside(path)) is not None:
        yield old


def not_a_bundle(path: Path, *, expected: str, got: str | None = None) -> BundleError:
    return BundleError("not a bundle", where=path, expected=expected, got=got, remedy=BUILD)
