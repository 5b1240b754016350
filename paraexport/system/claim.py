"""One build at a time for each output, and what a killed one left is repaired and removed by the next.

Beside an output NAME there may be, TAG being 12 hex digits of the sha256 of NAME:

- `.paraexport-TAG.lock`, locked by the process that is making NAME; the system unlocks it when that process ends.
- `.paraexport-TAG-*`, folders in which NAME is made. Where NAME is replaced in two renames, `old` in it is what was
  there before. `name` holds NAME.

So a folder whose lock is free has no living owner. The names are short, so that NAME may be as long as the system
allows.
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
    """The sole right of this process to make `output`; `workspace` makes folders for it."""

    output: Path
    """Absolute."""
    waited: bool = False
    """Another process had it before."""
    new_folders: list[Path] = field(default_factory=list)
    """Folders above `output` that were made for it."""

    @contextlib.contextmanager
    def workspace(self, what: str) -> Iterator[Path]:
        """A new folder beside the output, gone when the block ends.

        Raises:
            OutputError: writing `what` failed, for instance on a full disk.
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
    """Claim `output` for this process, after any other that is making it; `waiting` is called when there is one.

    Folders above it are made, and removed again if they stay empty. What killed processes left in the folder of the
    output is repaired and removed.

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
                folder.rmdir()  # fails unless it is empty


IN_THE_WAY = (FileExistsError, NotADirectoryError)


@contextlib.contextmanager
def writing(what: str, output: Path) -> Iterator[None]:
    """Turn the system's errors into an `OutputError`."""
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
    """Lock the file and return its descriptor; None while another process, or another thread of this one, has it."""
    while True:
        descriptor = open_lock(lock)
        try:
            if not try_lock(descriptor):
                os.close(descriptor)
                return None
            # Whoever had it before has removed the file: then this lock is on a file that nobody else will open.
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
    """Whether the lock was free; on file systems and systems without locks, as if it were."""
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
    """Repair and remove what killed processes left in `folder`, for any output."""
    for tag in sorted({found[1] for entry in entries(folder) if (found := HIDDEN.fullmatch(entry.name))}):
        lock = lock_of(folder, tag)
        with contextlib.suppress(OSError):
            if (descriptor := take(lock)) is not None:
                try:
                    recover(folder, tag)
                finally:
                    release(lock, descriptor)


def recover(folder: Path, tag: str) -> None:
    """Put back what was moved aside and not replaced, and remove the folders of `tag`; its lock must be held."""
    for work in works(folder, tag):
        with contextlib.suppress(OSError):
            output = folder / os.fsdecode((work / NAME).read_bytes())
            if output.parent == folder and (work / OLD).exists() and not os.path.lexists(output):
                (work / OLD).rename(output)
        shutil.rmtree(work, ignore_errors=True)


def repair(output: Path) -> None:
    """Put back what a killed process moved away from `output`, where this one may write there."""
    with contextlib.suppress(OSError):
        output = output.absolute()
        if moved_aside(output) and (descriptor := take(lock := lock_of(output.parent, tag_of(output)))) is not None:
            try:
                recover(output.parent, tag_of(output))
            finally:
                release(lock, descriptor)


def moved_aside(output: Path) -> Path | None:
    """What was at `output` until a process moved it aside, in order to replace it, or was killed before it could."""
    found = (work / OLD for work in works(output.absolute().parent, tag_of(output)))
    return next((old for old in found if old.exists()), None)


def works(folder: Path, tag: str) -> list[Path]:
    return [entry for entry in entries(folder) if entry.name.startswith(f".paraexport-{tag}-")]


def entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
