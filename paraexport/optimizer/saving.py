"""Where a rewritten ONNX file goes: written beside its place and renamed, with its weights file where it has one."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from paraexport.errors import OutputError
from paraexport.system.claim import claim, writing


def check(output: Path, sources: Collection[Path], *, force: bool) -> None:
    """Refuse a place that cannot take the file, before any work is done; `sources` are the input and its weights.

    Raises:
        OutputError: it is a source, a folder or a link, something is there and not `force`, or it cannot be written.
    """
    with writing("the output", output):
        check_replaceable(output, sources, force=force)
    with claim(output):
        pass  # its folder can be written


def check_replaceable(output: Path, sources: Collection[Path], *, force: bool) -> None:
    if output.is_symlink():
        raise OutputError("the output is a symbolic link", where=output, remedy="give the file itself, or another -o")
    if output.is_dir():
        raise OutputError("the output is a folder", where=output, expected="the name of a file", remedy="add a name")
    if output.exists() and any(source.exists() and output.samefile(source) for source in sources):
        raise OutputError("the output is the input, or its weights", where=output, remedy="give another -o")
    if output.exists() and not force:
        raise OutputError("the output exists", where=output, remedy="give --force to replace it, or another -o")


@contextlib.contextmanager
def staging(output: Path, *, force: bool) -> Iterator[tuple[Path, list[Path]]]:
    """A folder whose files, once the block ends well, come to the folder of `output`; it vanishes when it does not.

    The list is for the block to fill: the files that must not be replaced.

    Raises:
        OutputError: writing failed, or something has come to a file's place meanwhile.
    """
    output = output.absolute()
    sources: list[Path] = []
    with claim(output) as claimed, claimed.workspace("the output") as work:
        (folder := work / "new").mkdir()
        yield folder, sources
        # The model last: it is what a reader opens.
        files = sorted(
            (file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.name == output.name
        )
        places = [output.parent / file.relative_to(folder) for file in files]
        for place in places:
            check_replaceable(place, sources, force=force)
        for file, place in zip(files, places, strict=True):
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)
