"""Lets one build at a time write an output, and cleans up after killed builds.

Beside an output NAME there may be these files. TAG is 12 hex digits of the sha256 of NAME.

- `.paraexport-TAG.lock`: the process that makes NAME locks this file. The system unlocks it when that process ends.
- `.paraexport-TAG-*`: folders in which NAME is made. The file `name` in it holds NAME. If NAME is replaced in two
  renames, `old` is the previous version.

So if the lock is free, nobody owns the folders any more. TAG is short, so NAME may be as long as the system allows.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from paraexport.errors import OutputError

if sys.platform != "win32":
    import fcntl

HIDDEN = re.compile(r"\.paraexport-([0-9a-f]{12})(?:\.lock|-.*)")
NAME, OLD = "name", "old"
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
RETRY_S = 0.1


@dataclass
class Claim:
    """The sole right of this process to make `output`."""

    output: Path
    """An absolute path."""
    waited: bool = False
    """Whether another process had the claim before."""
    new_folders: list[Path] = field(default_factory=list)
    """The folders above `output` that were made for it."""

    @contextlib.contextmanager
    def workspace(self, what: str) -> Iterator[Path]:
        """A new folder beside the output. It is removed when the block ends.

        Raises:
            OutputError: `what` cannot be written, for instance because the disk is full.
        """
        work = None
        try:
            with writing(what, self.output):
                work = Path(tempfile.mkdtemp(dir=self.output.parent, prefix=f".paraexport-{tag_of(self.output)}-"))
                (work / NAME).write_bytes(os.fsencode(self.output.name))
                yield work
        finally:
            if work is not None:
                shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def claim(output: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[Claim]:
    """Claim `output` for this process. If another process has the claim, call `waiting` once, and wait.

    Missing folders above the output are made, and removed again if they stay empty. Leftovers of killed processes in
    the folder of the output are repaired and removed.

    Raises:
        OutputError: the folder of the output cannot be made or written.
    """
    output = output.absolute()
    claimed = Claim(output, new_folders=[folder for folder in output.parents if not folder.exists()])
    descriptor = None
    try:
        with writing("the output", output):
            output.parent.mkdir(parents=True, exist_ok=True)
            lock = lock_of(output.parent, tag_of(output))
            while (descriptor := take(lock)) is None:
                if not claimed.waited:
                    waiting()
                claimed.waited = True
                time.sleep(RETRY_S)
        recover(output.parent, tag_of(output))
        sweep(output.parent)
        yield claimed
    finally:
        if descriptor is not None:
            release(lock, descriptor)
        for folder in claimed.new_folders:
            with contextlib.suppress(OSError):
                folder.rmdir()  # fails if it is not empty


IN_THE_WAY = (FileExistsError, NotADirectoryError)


@contextlib.contextmanager
def writing(what: str, output: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into an `OutputError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{what} cannot be written",
            where=error.filename or output,
            got="a file where a folder is needed" if isinstance(error, IN_THE_WAY) else error.strerror or error,
            remedy="free space, or give another -o" if error.errno in NO_SPACE else "give another -o",
        ) from error


def tag_of(output: Path) -> str:
    return hashlib.sha256(os.fsencode(output.name)).hexdigest()[:12]


def lock_of(folder: Path, tag: str) -> Path:
    return folder / f".paraexport-{tag}.lock"


def take(lock: Path) -> int | None:
    """Lock the file and return its descriptor, or None if another process or thread holds the lock."""
    while True:
        descriptor = open_lock(lock)
        try:
            if not try_lock(descriptor):
                os.close(descriptor)
                return None
            # The previous holder may have removed the file. Then this lock is on a file that nobody else can open,
            # so the loop tries again with a new one.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), lock.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def open_lock(lock: Path) -> int:
    flags = os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        return os.open(lock, os.O_RDWR | flags, 0o666)
    except PermissionError:
        return os.open(lock, os.O_RDONLY | flags, 0o666)  # the file of another user


def try_lock(descriptor: int) -> bool:
    """Lock the file; False if another holds the lock. Without support for locks, the lock always counts as free."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def release(lock: Path, descriptor: int) -> None:
    with contextlib.suppress(OSError):
        lock.unlink()
    os.close(descriptor)


def sweep(folder: Path) -> None:
    """Repair and remove the leftovers of killed processes in `folder`, for every output."""
    for tag in sorted({match[1] for entry in entries(folder) if (match := HIDDEN.fullmatch(entry.name))}):
        lock = lock_of(folder, tag)
        with contextlib.suppress(OSError):
            if (descriptor := take(lock)) is not None:
                try:
                    recover(folder, tag)
                finally:
                    release(lock, descriptor)


def recover(folder: Path, tag: str) -> None:
    """Put back outputs that were moved aside and not replaced, then remove the workspaces of `tag`.

    The caller must hold the lock of `tag`.
    """
    for work in workspaces(folder, tag):
        with contextlib.suppress(OSError):
            output = folder / os.fsdecode((work / NAME).read_bytes())
            if output.parent == folder and (work / OLD).exists() and not os.path.lexists(output):
                (work / OLD).rename(output)
        shutil.rmtree(work, ignore_errors=True)


def repair(output: Path) -> None:
    """Put back the output that a killed process moved aside, if this process may write there."""
    with contextlib.suppress(OSError):
        output = output.absolute()
        if moved_aside(output) and (descriptor := take(lock := lock_of(output.parent, tag_of(output)))) is not None:
            try:
                recover(output.parent, tag_of(output))
            finally:
                release(lock, descriptor)


def moved_aside(output: Path) -> Path | None:
    """The previous version of `output`, if a process has moved it aside to replace it."""
    candidates = (work / OLD for work in workspaces(output.absolute().parent, tag_of(output)))
    return next((old for old in candidates if old.exists()), None)


def workspaces(folder: Path, tag: str) -> list[Path]:
    return [entry for entry in entries(folder) if entry.name.startswith(f".paraexport-{tag}-")]


def entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
