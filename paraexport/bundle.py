"""The bundle: one folder with a model, its manifest and its proofs. `docs/bundle.md` is the format.

A bundle is written beside its final place and renamed, so that a reader sees a whole bundle or none; every file is
hashed in the manifest, and the manifest in itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec

from paraexport.errors import BundleError, OutputError
from paraexport.records import FileEntry, Manifest
from paraexport.workspace import check_writable, workspace

FORMAT = 1
MANIFEST = "manifest.json"
MODEL = "model.onnx"
NO_DIGEST = "0" * 64
BUILD = "`paraexport build CKPT -o BUNDLE`"
REBUILD = f"copy the bundle again, or rebuild it with {BUILD}"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files are as its manifest says."""

    path: Path
    manifest: Manifest


def read_bundle(path: Path) -> Bundle:
    """Read and verify the bundle at `path`: every file is there, and its sha256 is the manifest's.

    Raises:
        BundleError: it is no bundle, is incomplete or changed, or needs a newer paraexport.
    """
    manifest = read_manifest(path)
    for name, entry in manifest.files.items():
        verify_file(path, name, entry)
    return Bundle(path, manifest)


def read_manifest(path: Path) -> Manifest:
    """The manifest of the bundle at `path`, its own digest verified; no other file is read."""
    file = path / MANIFEST
    if not path.is_dir():
        got = "a file" if path.exists() else "nothing"
        raise BundleError("not a bundle", where=path, expected="a folder", got=got, remedy=f"make one with {BUILD}")
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise BundleError(
            "not a bundle", where=path, expected=f"{MANIFEST} in it", remedy=f"make one with {BUILD}"
        ) from None
    except OSError as error:
        raise BundleError("cannot be read", where=file, got=error.strerror) from error
    raw = parse_json(file, content)
    if isinstance(version := raw.get("format"), int) and version > FORMAT:
        raise BundleError(
            "the bundle has a newer format",
            where=path,
            expected=f"at most {FORMAT}",
            got=version,
            remedy="update paraexport",
        )
    try:
        manifest = msgspec.convert(raw, Manifest)
    except msgspec.ValidationError as error:
        raise BundleError("the manifest is malformed", where=file, got=error, remedy=REBUILD) from error
    if unknown := raw.keys() - {field.name for field in dataclasses.fields(Manifest)}:
        raise BundleError("the manifest has unknown fields", where=file, got=", ".join(sorted(unknown)), remedy=REBUILD)
    if manifest.format != FORMAT:
        raise BundleError("the bundle has an unknown format", where=path, expected=FORMAT, got=manifest.format)
    if digest_of(content, manifest.digest) != manifest.digest:
        raise BundleError("the manifest was changed", where=file, expected=f"sha256 {manifest.digest}", remedy=REBUILD)
    if problems := list(contradictions(manifest)):
        raise BundleError(f"the manifest contradicts itself: {'; '.join(problems)}", where=file, remedy=REBUILD)
    return manifest


def contradictions(manifest: Manifest) -> Iterator[str]:
    """What a manifest of the right form may still say wrongly, each as one clause."""
    images, logits = ([len(value.shape) for value in side] for side in (manifest.inputs, manifest.outputs))
    if images != [4] or logits != [2]:
        yield "expected one input [N, C, H, W] and one output [N, classes]"
    elif manifest.outputs[0].shape[1] != len(manifest.labels):
        yield f"{len(manifest.labels)} labels for {manifest.outputs[0].shape[1]} classes"
    elif list(manifest.inputs[0].shape[1:]) != [manifest.preprocessing.channels, *manifest.preprocessing.image_size]:
        yield f"images {list(manifest.inputs[0].shape[1:])} are prepared as another size"
    yield from manifest.scores.problems(len(manifest.labels))
    if manifest.max_batch < 1:
        yield f"max_batch is {manifest.max_batch}"
    if MODEL not in manifest.files:
        yield f"{MODEL} is not among its files"


def parse_json(file: Path, content: bytes) -> dict[str, object]:
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError("the manifest is not JSON", where=file, got=error, remedy=REBUILD) from error
    if not isinstance(raw, dict):
        raise BundleError("the manifest is not a JSON object", where=file, got=type(raw).__name__, remedy=REBUILD)
    return raw


def verify_file(path: Path, name: str, entry: FileEntry) -> None:
    parts = PurePosixPath(name)
    if (
        parts.is_absolute()
        or ".." in parts.parts
        or "\\" in name
        or "\0" in name
        or not (path / name).resolve().is_relative_to(path.resolve())
    ):
        raise BundleError(
            "the manifest names a file outside the bundle", where=path / MANIFEST, got=name, remedy=REBUILD
        )
    file = path / name
    if not file.is_file():
        raise BundleError("a file of the bundle is missing", where=file, remedy=REBUILD)
    size = file.stat().st_size
    if size != entry.size_bytes:
        raise BundleError(
            "a file of the bundle was changed",
            where=file,
            expected=f"{entry.size_bytes} bytes",
            got=f"{size} bytes",
            remedy=REBUILD,
        )
    if (digest := sha256_of(file)) != entry.sha256:
        raise BundleError(
            "a file of the bundle was changed",
            where=file,
            expected=f"sha256 {entry.sha256}",
            got=digest,
            remedy=REBUILD,
        )


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Hash every file in `folder` into `manifest`, hash the manifest itself, and write it; returns what was written."""
    files = {
        file.relative_to(folder).as_posix(): FileEntry(sha256_of(file), file.stat().st_size)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    blank = dataclasses.replace(manifest, files=files, digest=NO_DIGEST)
    final = dataclasses.replace(blank, digest=hashlib.sha256(encode(blank)).hexdigest())
    (folder / MANIFEST).write_bytes(encode(final))
    return final


def encode(manifest: Manifest) -> bytes:
    return json.dumps(msgspec.to_builtins(manifest), indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def digest_of(content: bytes, digest: str) -> str:
    """sha256 of a manifest's bytes with its own digest read as zeros."""
    return hashlib.sha256(content.replace(digest.encode(), NO_DIGEST.encode(), 1)).hexdigest()


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_output(output: Path, *, force: bool) -> None:
    """Refuse a place that cannot take a bundle, before any work is done; nothing is written.

    Raises:
        OutputError: something else is there, or a bundle and not `force`, or the folder cannot be written.
    """
    check_replaceable(output, force=force)
    check_writable(output)


def check_replaceable(output: Path, *, force: bool, there_is: str = "a bundle from other inputs is there") -> None:
    """Raise an `OutputError` unless nothing is at `output`, or a bundle and nothing besides it, and `force`."""
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
        raw = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(raw, dict) or not {"format", "digest", "paraexport"} <= raw.keys():
        return None
    files = raw.get("files")
    return {MANIFEST, *(files if isinstance(files, dict) else ())}


@contextlib.contextmanager
def staging(output: Path, *, force: bool = False) -> Iterator[Path]:
    """A folder beside `output` that takes its place when the block ends well, and vanishes when it does not.

    Raises:
        OutputError: writing failed, for instance on a full disk, or something has come to `output` meanwhile.
    """
    output = output.absolute()
    with workspace(output, "the bundle") as work:
        folder = work / "new"
        folder.mkdir()
        yield folder
        open_to_readers(folder)
        check_replaceable(output, force=force, there_is="another build has put a bundle there meanwhile")
        replace(folder, output, work / "old")


def open_to_readers(folder: Path) -> None:
    """Temporary folders, and what some libraries write, are for their owner alone; a bundle is for whoever may read."""
    mask = os.umask(0)
    os.umask(mask)
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def replace(folder: Path, output: Path, aside: Path) -> None:
    """Rename `folder` to `output`; an old bundle there goes to `aside` first and comes back when that fails."""
    try:
        if output.exists():
            output.rename(aside)
        folder.rename(output)
    except BaseException:
        if aside.exists() and not output.exists():
            aside.rename(output)
        raise
