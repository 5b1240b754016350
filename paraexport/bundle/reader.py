"""A bundle on disk -> a verified `Bundle`, whatever happens to the folder in the meantime."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from paraexport import claim
from paraexport.bundle import manifest as manifests
from paraexport.bundle.opened import BundleReplacedError, OpenFolder
from paraexport.errors import BundleError
from paraexport.folder import MANIFEST, Folder
from paraexport.records import Manifest

BUILD = "make one with `paraexport build CKPT -o BUNDLE`"
PATIENCE_S = 10.0
"""For how long a bundle that is replaced again and again is read again."""

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
    try:
        if path.is_dir():
            return OpenFolder(path)
        there = path.exists() or path.is_symlink()
    except OSError as error:  # such as a name that is too long
        raise BundleError("cannot be read", where=path, got=error.strerror) from error
    if there:
        raise not_a_bundle(path, expected="a folder", got="a file" if path.is_file() else "no folder")
    claim.repair(path)
    for _ in range(3):  # it may be put back, or replaced, between two looks
        if path.is_dir():
            return OpenFolder(path)
        if (old := claim.moved_aside(path)) is not None:
            try:
                return OpenFolder(path, old)
            except BundleError:
                continue
    raise not_a_bundle(path, expected="a folder", got="nothing")


def not_a_bundle(path: Path, *, expected: str, got: str | None = None) -> BundleError:
    return BundleError("not a bundle", where=path, expected=expected, got=got, remedy=BUILD)
