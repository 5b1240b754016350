"""Makes paths usable for libraries that only take UTF-8 text.

The name of a file may be any bytes, but libraries in C++ and Rust refuse bytes that are not UTF-8.
"""

from __future__ import annotations

import atexit
import functools
import re
import tempfile
from pathlib import Path

ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)")


def plain(path: Path) -> Path:
    """`path` itself if it is UTF-8 text, else a path to the same file or folder through a link with a plain name.

    The links are removed when the process ends.
    """
    if is_text(path) or not path.exists():
        return path
    path = path.absolute()
    if path.is_dir() or not is_text(Path(path.name)):
        return link_to(path)
    return link_to(path.parent) / path.name


def readable(text: str) -> str:
    """`text` with an escape for every byte that is not UTF-8, for files in JSON and HTML."""
    return text.encode("utf-8", "backslashreplace").decode()


def is_text(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:  # Python writes bytes that are not UTF-8 as surrogates
        return False
    return True


@functools.cache
def link_to(path: Path) -> Path:
    links = links_folder()
    link = Path(links.name) / f"{len([*Path(links.name).iterdir()])}{path.suffix if is_text(Path(path.suffix)) else ''}"
    link.symlink_to(path)
    return link


def remove_links() -> None:
    """Remove the links of a process that ends without `atexit`."""
    if links_folder.cache_info().currsize:
        links_folder().cleanup()
        links_folder.cache_clear()
        link_to.cache_clear()


@functools.cache
def links_folder() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="paraexport-")
    atexit.register(folder.cleanup)
    return folder


def name_of(path: Path) -> str:
    """The last part of a path: reports and manifests go to other machines, and do not name folders of this one."""
    return path.name or path.absolute().name or str(path)


def address_in(path: Path) -> str | None:
    """The address on the network that was given as a path, or None. pathlib has removed one of its slashes."""
    match = ADDRESS.match(str(path))
    return f"{match[1]}://{match[2]}" if match else None
