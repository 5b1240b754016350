"""Turns a finished folder into a bundle: hashes its files and moves it into place in one step."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from paraexport.bundle.manifest import MANIFEST_BYTES, encode, parse_json, seal
from paraexport.bundle.opened import OpenFolder
from paraexport.bundle.records import FileEntry, Manifest
from paraexport.bundle.swap import replace
from paraexport.errors import BundleError, OutputError
from paraexport.system.claim import Claim, claim, writing
from paraexport.system.files import file_digest
from paraexport.targets.folder import MANIFEST

MEANWHILE = "another build has written a bundle there meanwhile"


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Add the hash of every file in `folder` and the manifest's own digest; write the manifest and return it."""
    files = {
        file.relative_to(folder).as_posix(): FileEntry(file_digest(file).hex(), file.stat().st_size)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    final = seal(dataclasses.replace(manifest, files=files))
    (folder / MANIFEST).write_bytes(encode(final))
    return final


def check_replaceable(
    output: Path, *, force: bool, conflict: str = "the output already holds a bundle from other inputs"
) -> None:
    """Raise an `OutputError` unless `output` is free, or holds only a bundle and `force` is set."""
    with writing("the bundle", output):
        _check_replaceable(output, force=force, conflict=conflict)


def _check_replaceable(output: Path, *, force: bool, conflict: str) -> None:
    if output.is_symlink():
        raise OutputError("the output is a symbolic link", where=output, remedy="give the folder itself, or another -o")
    if not output.exists():
        return
    if (own := own_files(output)) is None:
        raise OutputError("the output exists and is not a bundle", where=output, remedy="remove it or give another -o")
    names = {file.relative_to(output).as_posix() for file in output.rglob("*") if not file.is_dir()}
    if others := sorted(names - own):
        raise OutputError(
            f"the bundle's folder holds files that do not belong to it: {', '.join(others[:3])}",
            where=output,
            remedy="move them away, or give another -o",
        )
    if not force:
        raise OutputError(conflict, where=output, remedy="give --force to replace it, or another -o")


def own_files(folder: Path) -> set[str] | None:
    """Return the manifest's name and the names it lists, even if files are damaged; None if this is not a bundle."""
    try:
        with OpenFolder(folder) as opened:
            raw = parse_json(opened.read_at_most(MANIFEST, MANIFEST_BYTES), folder / MANIFEST)
    except BundleError:
        return None
    if not {"format", "digest", "paraexport"} <= raw.keys():
        return None
    files = raw.get("files")
    return {MANIFEST, *(files if isinstance(files, dict) else ())}


@contextlib.contextmanager
def staging(output: Path, *, force: bool = False, claimed: Claim | None = None) -> Iterator[Path]:
    """Yield a new folder next to `output`. It replaces `output` if the block succeeds, and is removed if it fails.

    Args:
        force: replace an existing bundle.
        claimed: the claim on `output`, if the caller has one.

    Raises:
        OutputError: writing failed, for instance on a full disk, or another process created `output` meanwhile.
    """
    if claimed is None:
        with claim(output) as own, staging(output, force=force, claimed=own) as folder:
            yield folder
        return
    with claimed.workspace("the bundle") as work:
        folder = work / "new"
        folder.mkdir()
        yield folder
        open_to_readers(folder)
        check_replaceable(claimed.output, force=force, conflict=MEANWHILE)
        replace(folder, claimed.output, work, lambda old: check_replaceable(old, force=force, conflict=MEANWHILE))


def open_to_readers(folder: Path) -> None:
    """Give the usual permissions to all files: temporary folders and some libraries allow only the owner to read."""
    mask = os.umask(0)
    os.umask(mask)
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
