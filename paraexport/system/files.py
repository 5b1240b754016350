"""Files: their digests, what lies below a folder and in which order, and the folder of caches."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from paraexport.errors import DataError

KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def without_dots(path: Path) -> Path:
    """`path`; or, if there is `..` in it, where that leads, though the folders on the way need not be there."""
    if ".." not in path.parts:
        return path
    if path.name == "..":
        return Path(os.path.realpath(path))
    return Path(os.path.realpath(path.parent)) / path.name


def cache_folder(what: str) -> Path:
    """`$XDG_CACHE_HOME/paraexport/WHAT`, or in `~/.cache` when that is unset or relative.

    It may not exist yet, and it may be a place that cannot be written: then nothing is kept.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not root.is_absolute():
        try:
            root = Path.home() / ".cache"
        except RuntimeError:  # no $HOME, and no entry in the table of users, as in some containers
            root = Path(os.devnull)
    return root / "paraexport" / what


def digest_path(path: Path) -> str:
    """sha256 of a file, or of the sorted relative names and the contents of all files in a folder but hidden ones.

    Raises:
        DataError: nothing there, or a file or folder cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        return file_digest(path).hex()
    sha256 = hashlib.sha256()
    files = {file.relative_to(path).as_posix(): file for file in files_below(path) if file.is_file()}
    for name, file in sorted(files.items()):
        sha256.update(os.fsencode(name) + b"\0" + file_digest(file))
    return sha256.hexdigest()


def file_digest(path: Path) -> bytes:
    """The 32 bytes of a file's sha256.

    Raises:
        DataError: it cannot be read.
    """
    with open_regular(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise DataError("cannot be read", where=path, got=error.strerror, remedy="check the disk") from error


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading. A pipe, a socket or a device could wait or go on for ever, so it is refused.

    Raises:
        DataError: it cannot be opened, or it is no regular file.
    """
    try:
        mode = path.stat().st_mode  # before it is opened: to open a pipe is to wait for its other end
        if stat.S_ISREG(mode):
            return path.open("rb")
    except OSError as error:
        remedy = "check its permissions" if path.exists() else "check the path"
        raise DataError("cannot be read", where=path, got=error.strerror, remedy=remedy) from error
    got = next((name for holds, name in KINDS.items() if holds(mode)), "something else")
    raise DataError("not a regular file", where=path, expected="a file", got=got, remedy="copy it to a file")


def files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Everything below but hidden entries, in natural order; links to folders are followed, except in a circle."""
    real = folder.resolve()
    if real in above:
        return
    for entry in sorted(_entries(folder), key=lambda entry: natural(entry.name)):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from files_below(entry, (*above, real))
        else:
            yield entry


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DataError("cannot be read", where=folder, got=error.strerror, remedy="check its permissions") from error


def natural(name: str) -> tuple[list[str | int], str]:
    """The key of natural order: `2.png` before `10.png`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
