"""Paths for libraries that take UTF-8 text only, as those in C++ and Rust do; the name of a file may be any bytes."""

from __future__ import annotations

import atexit
import functools
import tempfile
from pathlib import Path


def plain(path: Path) -> Path:
    """`path` itself where it is UTF-8 text, else a way to the same file or folder through a link with a plain name.

    The links are removed when the process ends.
    """
    if is_text(path) or not path.exists():
        return path
    path = path.absolute()
    if path.is_dir() or not is_text(Path(path.name)):
        return link_to(path)
    return link_to(path.parent) / path.name


def readable(text: str) -> str:
    """`text` with an escape for every byte that is not UTF-8, as files in JSON and HTML need it."""
    return text.encode("utf-8", "backslashreplace").decode()


def is_text(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8 stand in the text as surrogates
        return False
    return True


@functools.cache
def link_to(path: Path) -> Path:
    links = links_folder()
    link = Path(links.name) / f"{len([*Path(links.name).iterdir()])}{path.suffix if is_text(Path(path.suffix)) else ''}"
    link.symlink_to(path)
    return link


def remove_links() -> None:
    """For a process that ends without tidying up."""
    if links_folder.cache_info().currsize:
        links_folder().cleanup()
        links_folder.cache_clear()
        link_to.cache_clear()


@functools.cache
def links_folder() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="paraexport-")
    atexit.register(folder.cleanup)
    return folder
