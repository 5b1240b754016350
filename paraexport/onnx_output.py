"""Where a rewritten ONNX file goes: written beside its place and renamed, with its weights file where it has one."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from paraexport.errors import OutputError


def check(output: Path, source: Path, *, force: bool) -> None:
    """Refuse a place that cannot take the file, before any work is done.

    Raises:
        OutputError: it is the input, a folder or a link, something is there and not `force`, or it cannot be written.
    """
    check_replaceable(output, source, force=force)
    parent = next(folder for folder in output.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryDirectory(dir=parent, prefix=f".{output.name}."):
            pass
    except OSError as error:
        raise OutputError(
            "the output cannot be written", where=parent, got=error.strerror, remedy="give another -o"
        ) from error


def check_replaceable(output: Path, source: Path, *, force: bool) -> None:
    if output.is_symlink():
        raise OutputError("the output is a symbolic link", where=output, remedy="give the file itself, or another -o")
    if output.is_dir():
        raise OutputError("the output is a folder", where=output, expected="the name of a file", remedy="add a name")
    if output.exists() and source.exists() and output.samefile(source):
        raise OutputError("the output is the input", where=output, remedy="give another -o")
    if output.exists() and not force:
        raise OutputError("the output exists", where=output, remedy="give --force to replace it, or another -o")


@contextlib.contextmanager
def staging(output: Path, source: Path, *, force: bool) -> Iterator[Path]:
    """A folder whose files, once the block ends well, come to the folder of `output`; it vanishes when it does not.

    Raises:
        OutputError: writing failed, or something has come to a file's place meanwhile.
    """
    output = output.absolute()
    created = [folder for folder in output.parents if not folder.exists()]
    work = None
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
        yield work
        # The model last: it is what a reader opens.
        files = sorted((file for file in work.rglob("*") if file.is_file()), key=lambda file: file.name == output.name)
        places = [output.parent / file.relative_to(work) for file in files]
        for place in places:
            check_replaceable(place, source, force=force)
        for file, place in zip(files, places, strict=True):
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)
    except OSError as error:
        raise OutputError(
            "the output cannot be written",
            where=error.filename or output,
            got=error.strerror or error,
            remedy="free space, or give another -o",
        ) from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
        for folder in created:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only where it is empty: nothing was written
