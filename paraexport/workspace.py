"""A folder beside an output in which it is made: a reader sees the whole of it or nothing, whatever goes wrong."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from paraexport.errors import OutputError


def check_writable(output: Path) -> None:
    """Refuse a place that cannot be written, before any work is done; nothing is written.

    Raises:
        OutputError: the folder of `output`, or the nearest one there is above it, takes no files.
    """
    parent = next(folder for folder in output.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryDirectory(dir=parent, prefix=f".{output.name}."):
            pass
    except OSError as error:
        raise OutputError(
            "the output cannot be written", where=parent, got=error.strerror, remedy="give another -o"
        ) from error


@contextlib.contextmanager
def workspace(output: Path, what: str) -> Iterator[Path]:
    """A new folder beside `output`, which is gone when the block ends; whoever uses it moves the results out before.

    The folders above `output` are made, and taken away again where they stay empty.

    Raises:
        OutputError: writing `what` failed, for instance on a full disk.
    """
    output = output.absolute()
    created = [folder for folder in output.parents if not folder.exists()]
    work = None
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
        yield work
    except OSError as error:
        raise OutputError(
            f"{what} cannot be written",
            where=error.filename or output,
            got=error.strerror or error,
            remedy="free space, or give another -o",
        ) from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
        for folder in created:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only where it is empty: nothing was made
