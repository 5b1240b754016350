"""Opens a bundle's folder once and reads its files through handles, even if their paths change meanwhile.

A bundle may be replaced after its sha256 was checked. A runtime that opens a file by its path would then get an
unchecked file. So each file is opened once, and the runtime gets `/proc/self/fd/N`. This path opens the same file
again, even if it was replaced or removed. If the weights are in a separate file, the runtime finds them by the model's
path. It then gets a path through the handle of the folder. Systems without `/proc` get the path itself, and
`require_unchanged` detects if another file is there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from paraexport.bundle.open_file import OpenFile, changed, is_inside, require_regular
from paraexport.bundle.records import FileEntry
from paraexport.errors import BundleError
from paraexport.targets.folder import COPY_AGAIN, MANIFEST, MODEL, WEIGHTS, Folder

MOST_SWAPS = 100
"""Swaps of bundles during the check of one file."""
HANDLES = Path("/proc/self/fd")
ONNX = ".onnx"
IN_MEMORY_BYTES = 1 << 30
"""The largest file that is read into memory."""
CLOCK_TICK_NS = 20_000_000
"""A file system may give the same time to two writes within this interval."""
BUILD = "make one with `paraexport build CKPT -o BUNDLE`"
MOVE_AWAY = "move them out of the bundle"


class BundleReplacedError(BundleError):
    """Another bundle replaced this one while it was read. Reading again may succeed."""


def remedy_for(file: Path) -> str:
    """What to do with a file that was given instead of a bundle."""
    if (file.parent / MANIFEST).is_file():
        return f"give the folder of the bundle, {file.parent}"
    return f"if it is a checkpoint, build a bundle from it: paraexport build {file}"


class OpenFolder(Folder):
    """A folder that others may replace or write to while it is read.

    Raises:
        BundleError: it is not a folder, or cannot be read.
    """

    def __init__(self, path: Path, real: Path | None = None) -> None:
        """`real` is the current place of the folder, if it is not at `path`."""
        super().__init__(path)
        self.real = real or path
        self.files: dict[str, OpenFile] = {}
        self.entries: dict[str, FileEntry] = {}
        """The verified files of the manifest. Readers get no other files."""
        self.descriptor: int | None = None
        try:
            if os.open in os.supports_dir_fd:
                self.descriptor = os.open(self.real, os.O_RDONLY | os.O_DIRECTORY)
            else:
                next(self.real.iterdir(), None)
        except NotADirectoryError:
            raise BundleError(
                "not a bundle", where=path, expected="a folder", got="a file", remedy=remedy_for(path)
            ) from None
        except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
            got = error.strerror if isinstance(error, OSError) else error
            raise BundleError("cannot be read", where=path, got=got) from error

    def open(self, name: str) -> OpenFile:
        """Open the file `name`, or return its handle if it is already open.

        Raises:
            BundleError: it is missing, not a regular file, outside the folder, or cannot be read.
        """
        if name not in self.files:
            self.files[name] = self._open(name)
        return self.files[name]

    def _open(self, name: str) -> OpenFile:
        where = self.path / name
        if not is_inside(name):
            raise BundleError("a file outside the bundle", where=self.path, got=name, remedy=COPY_AGAIN)
        try:
            require_regular(self._stat(name), where)
            # If a FIFO has just replaced it, a blocking open would wait for a writer.
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            descriptor = os.open(self._operand(name), flags, dir_fd=self.descriptor)
        except FileNotFoundError:
            raise BundleError("a file of the bundle is missing", where=where, remedy=COPY_AGAIN) from None
        except OSError as error:
            got = "a link that leads to itself" if error.errno == errno.ELOOP else error.strerror
            raise BundleError("cannot be read", where=where, got=got, remedy=COPY_AGAIN) from error
        try:
            status = os.fstat(descriptor)
            require_regular(status, where)
            self._require_inside(name, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return OpenFile(descriptor, status.st_size, status.st_mtime_ns)

    def _operand(self, name: str) -> Path:
        """Return the path to pass to `os.open` and `os.stat` together with the folder's handle."""
        return Path(name) if self.descriptor is not None else self.real / name

    def _stat(self, name: str) -> os.stat_result:
        return os.stat(self._operand(name), dir_fd=self.descriptor)

    def _require_inside(self, name: str, descriptor: int) -> None:
        """Raise if the file is a link to a file outside the folder.

        While two bundles swap their places, the paths of a file and of its folder can be read before and after the
        swap. So both are read again until the path of the folder stays the same.
        """
        for _ in range(MOST_SWAPS):
            before, file, after = self._real_paths(name, descriptor)
            if file.is_relative_to(before) or file.is_relative_to(after):
                return
            if before == after:
                break
        raise BundleError(
            "a link leads out of the bundle", where=self.path / name, got=file, remedy="copy the file itself"
        )

    def _real_paths(self, name: str, descriptor: int) -> tuple[Path, Path, Path]:
        """The paths without links of the folder, of the open file, and of the folder once more."""
        if self.descriptor is not None and HANDLES.exists():
            return real_path(self.descriptor), real_path(descriptor), real_path(self.descriptor)
        return self.real.resolve(), (self.real / name).resolve(), self.real.resolve()

    def verify(self, name: str, entry: FileEntry) -> None:
        """Check the size and the sha256 of a file, and allow reading it from now on.

        Raises:
            BundleError: the file is missing or was changed.
        """
        file, where = self.open(name), self.path / name
        if file.size_bytes != entry.size_bytes:
            raise changed(where, f"{entry.size_bytes} bytes", f"{file.size_bytes} bytes")
        # A later write within the same clock tick would not change the file's time.
        if 0 <= (age_ns := time.time_ns() - file.modified_ns) < CLOCK_TICK_NS:
            time.sleep((CLOCK_TICK_NS - age_ns) / 1e9)
        with file.stream() as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != entry.sha256:
            raise changed(where, f"sha256 {entry.sha256}", digest)
        self.entries[name] = entry

    def require_unchanged(self) -> None:
        """Raise unless a runtime has read exactly the files that were verified.

        Raises:
            BundleReplacedError: the runtime may have read another file. Reading the bundle again resolves this.
            BundleError: another process writes to a file of the bundle.
        """
        for name, file in self.files.items():
            now = os.fstat(file.descriptor)
            if (now.st_size, now.st_mtime_ns) != (file.size_bytes, file.modified_ns):
                raise BundleError("written to while it was read", where=self.path / name, remedy=COPY_AGAIN)
            if self._is_opened_by_path(name):
                try:
                    same = os.path.samestat(now, self._stat(name))
                except OSError:
                    same = False
                if not same:
                    raise BundleReplacedError("replaced while it was read", where=self.path, remedy="read it again")

    def is_gone(self) -> bool:
        """Return whether the path now leads to another folder or to nothing."""
        try:
            return self.descriptor is not None and not os.path.samestat(os.fstat(self.descriptor), self.path.stat())
        except OSError:
            return True

    def at(self, name: str) -> Path:
        if not self._is_opened_by_path(name):
            return HANDLES / str(self.open(name).descriptor)
        if self.descriptor is None or not HANDLES.exists():
            return self.real / name
        return HANDLES / str(self.descriptor) / name

    def _is_opened_by_path(self, name: str) -> bool:
        """Return whether a runtime opens the file by its name, not through the verified handle."""
        return ((name == WEIGHTS or name.endswith(ONNX)) and WEIGHTS in self.entries) or not HANDLES.exists()

    def require_no_others(self) -> None:
        """Refuse unlisted files if the model could read them by name.

        Raises:
            BundleError: the folder has files that the manifest does not list.
        """
        if self._is_opened_by_path(MODEL):
            names = {file.relative_to(self.real).as_posix() for file in self.real.rglob("*") if not file.is_dir()}
            if others := sorted(names - {*self.entries, MANIFEST}):
                got = ", ".join(others[:3])
                raise BundleError("files that the manifest does not list", where=self.path, got=got, remedy=MOVE_AWAY)

    def named(self, text: str) -> str:
        if self.descriptor is not None:
            text = re.sub(rf"{HANDLES}/{self.descriptor}(?!\d)", lambda _: str(self.path), text)
        for name, file in self.files.items():
            path = str(self.path / name)
            text = re.sub(rf"{HANDLES}/{file.descriptor}(?!\d)", lambda _, path=path: path, text)  # type: ignore[misc]
        return text

    def has(self, name: str) -> bool:
        return name in self.entries

    def read(self, name: str) -> bytes:
        """Read a file that the manifest lists, and check its sha256 again."""
        where = self.path / name
        if name not in self.entries:
            raise BundleError("the manifest does not list this file", where=where, remedy=COPY_AGAIN)
        content = self.read_at_most(name, IN_MEMORY_BYTES)
        if hashlib.sha256(content).hexdigest() != self.entries[name].sha256:
            raise changed(where, f"sha256 {self.entries[name].sha256}", "other bytes")
        return content

    def read_at_most(self, name: str, most_bytes: int) -> bytes:
        """Read a file that the manifest may not list."""
        file = self.open(name)
        if file.size_bytes > most_bytes:
            where, got = self.path / name, f"{file.size_bytes} bytes"
            raise BundleError("too large", where=where, expected=f"at most {most_bytes} bytes", got=got)
        with file.stream() as stream:
            return stream.read(most_bytes)

    def close(self) -> None:
        descriptors = [file.descriptor for file in self.files.values()]
        if self.descriptor is not None:
            descriptors.append(self.descriptor)
        self.files, self.descriptor = {}, None
        for descriptor in descriptors:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "files", None) is not None:
            self.close()


def real_path(descriptor: int) -> Path:
    return Path(os.readlink(HANDLES / str(descriptor)).removesuffix(" (deleted)"))  # noqa: PTH115 (no path but a link)
