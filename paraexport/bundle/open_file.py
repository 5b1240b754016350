"""Holds an open file of a bundle, and checks the name and the kind of its files."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePosixPath

from paraexport.errors import BundleError
from paraexport.system.files import file_kind
from paraexport.targets.folder import COPY_AGAIN


@dataclass(frozen=True)
class OpenFile:
    """A regular file inside the folder, opened for reading."""

    descriptor: int
    size_bytes: int
    modified_ns: int

    def stream(self) -> BufferedReader:
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        return os.fdopen(self.descriptor, "rb", closefd=False)


def is_inside(name: str) -> bool:
    """Return whether a relative file name with `/` as separator stays inside the folder."""
    steps = PurePosixPath(name)
    return not (
        not name or name != str(steps) or steps.is_absolute() or ".." in steps.parts or "\\" in name or "\0" in name
    )


def require_regular(status: os.stat_result, where: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        got = file_kind(status.st_mode)
        raise BundleError("not a regular file", where=where, got=got, remedy=COPY_AGAIN)


def changed(where: Path, expected: str, got: str) -> BundleError:
    return BundleError("a file of the bundle was changed", where=where, expected=expected, got=got, remedy=COPY_AGAIN)
