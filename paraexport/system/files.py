"""Opens, hashes and lists files, and finds the folder of caches."""

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
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def without_dots(path: Path) -> Path:
    """`path` without `..` in it. The folders on the way need not exist."""
    if ".." not in path.parts:
        return path
    if path.name == "..":
        return Path(os.path.realpath(path))
    return Path(os.path.realpath(path.parent)) / path.name


def cache_folder(what: str) -> Path:
    """`$XDG_CACHE_HOME/paraexport/WHAT`, or the same in `~/.cache` if the variable is unset or relative.

    The folder may not exist yet. If it cannot be written, nothing is cached.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not root.is_absolute():
        try:
            root = Path.home() / ".cache"
        except RuntimeError:  # some containers have no $HOME and no entry in the table of users
            root = Path(os.devnull)
    return root / "paraexport" / what


def digest_path(path: Path) -> str:
    """The sha256, in hex, of a file or a folder: of the sorted relative names and contents of all files not hidden.

    Raises:
        DataError: `path` does not exist, or a file or folder cannot be read.
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
    """The sha256 of a file, 32 bytes.

    Raises:
        DataError: the file cannot be read.
    """
    with open_regular(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise DataError("cannot be read", where=path, got=error.strerror, remedy="check the disk") from error


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading. Pipes, sockets and devices are refused, since reading them might never end.

    Raises:
        DataError: the file cannot be opened, or it is not a regular file.
    """
    try:
        mode = path.stat().st_mode  # before opening: opening a pipe waits for a process at its other end
        if stat.S_ISREG(mode):
            return path.open("rb")
    except OSError as error:
        remedy = "check its permissions" if path.exists() else "check the path"
        raise DataError("cannot be read", where=path, got=error.strerror, remedy=remedy) from error
    raise DataError(
        "not a regular file", where=path, expected="a file", got=file_kind(mode), remedy="copy it to a file"
    )


def file_kind(mode: int) -> str:
    """What a file that is not regular is, e.g. "a pipe"; `mode` is its `st_mode`."""
    return KINDS.get(stat.S_IFMT(mode), "something else")


def files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """All files below `folder` that are not hidden, in natural order.

    Links to folders are followed, unless they lead back to a folder above.
    """
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
    """A key that sorts in natural order: `2.png` before `10.png`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name
