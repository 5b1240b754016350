"""Puts a rewritten ONNX file and its file of weights in place: writes beside the place, then renames."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from paraexport.errors import OutputError
from paraexport.system.claim import claim, writing


def check(output: Path, sources: Collection[Path], *, force: bool) -> None:
    """Refuse an impossible output before any work is done.

    Args:
        sources: the input and its files of weights.

    Raises:
        OutputError: the output is a source, a folder or a link, exists without `force`, or cannot be written.
    """
    with writing("the output", output):
        check_replaceable(output, sources, force=force)
    with claim(output):
        pass  # this checks that its folder can be written


def check_replaceable(output: Path, sources: Collection[Path], *, force: bool) -> None:
    if output.is_symlink():
        raise OutputError(
            "the output is a symbolic link", where=output, remedy="give the path of the file itself, or another -o"
        )
    if output.is_dir():
        raise OutputError("the output is a folder", where=output, expected="a file", remedy="add a file name")
    if output.exists() and any(source.exists() and output.samefile(source) for source in sources):
        raise OutputError("the output is the input, or its weights", where=output, remedy="give another -o")
    if output.exists() and not force:
        raise OutputError("the output already exists", where=output, remedy="give --force to replace it, or another -o")


@contextlib.contextmanager
def staging(output: Path, *, force: bool) -> Iterator[tuple[Path, list[Path]]]:
    """A folder to write into. If the block succeeds, its files move to the folder of `output`; if not, it is removed.

    The block adds the files that must not be replaced to the list.

    Raises:
        OutputError: writing failed, or another file has appeared at the place of a file.
    """
    output = output.absolute()
    sources: list[Path] = []
    with claim(output) as claimed, claimed.workspace("the output") as work:
        (folder := work / "new").mkdir()
        yield folder, sources
        # The model comes last, since readers open it first.
        files = sorted(
            (file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.name == output.name
        )
        places = [output.parent / file.relative_to(folder) for file in files]
        for place in places:
            check_replaceable(place, sources, force=force)
        for file, place in zip(files, places, strict=True):
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)
