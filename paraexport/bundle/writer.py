"""A finished folder -> a bundle at its place: hashed, and put there in one step."""

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

MEANWHILE = "another build has put a bundle there meanwhile"


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Hash every file in `folder` into `manifest`, hash the manifest itself, and write it; returns what was written."""
    files = {
        file.relative_to(folder).as_posix(): FileEntry(file_digest(file).hex(), file.stat().st_size)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    final = seal(dataclasses.replace(manifest, files=files))
    (folder / MANIFEST).write_bytes(encode(final))
    return final


def check_replaceable(output: Path, *, force: bool, there_is: str = "a bundle from other inputs is there") -> None:
    """Raise an `OutputError` unless nothing is at `output`, or a bundle and nothing besides it, and `force`."""
    with writing("the bundle", output):
        _check_replaceable(output, force=force, there_is=there_is)


def _check_replaceable(output: Path, *, force: bool, there_is: str) -> None:
    if output.is_symlink():
        raise OutputError("the output is a symbolic link", where=output, remedy="give the folder itself, or another -o")
    if not output.exists():
        return
    if (own := own_files(output)) is None:
        raise OutputError("the output exists and is no bundle", where=output, remedy="remove it or give another -o")
    there = {file.relative_to(output).as_posix() for file in output.rglob("*") if not file.is_dir()}
    if others := sorted(there - own):
        raise OutputError(
            f"there are files in the bundle that are not its own: {', '.join(others[:3])}",
            where=output,
            remedy="move them away, or give another -o",
        )
    if not force:
        raise OutputError(there_is, where=output, remedy="give --force to replace it, or another -o")


def own_files(folder: Path) -> set[str] | None:
    """The files that a bundle's manifest names, itself included, though they may be damaged; None for no bundle."""
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
    """A folder beside `output` that takes its place when the block ends well, and vanishes when it does not.

    Args:
        force: a bundle that is there is replaced.
        claimed: the claim on `output`, where the caller has one.

    Raises:
        OutputError: writing failed, for instance on a full disk, or something has come to `output` meanwhile.
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
        check_replaceable(claimed.output, force=force, there_is=MEANWHILE)
        replace(folder, claimed.output, work, lambda old: check_replaceable(old, force=force, there_is=MEANWHILE))


def open_to_readers(folder: Path) -> None:
    """Temporary folders, and what some libraries write, are for their owner alone; a bundle is for whoever may read."""
    mask = os.umask(0)
    os.umask(mask)
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
