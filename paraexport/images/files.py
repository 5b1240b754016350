"""Image files: those below a folder, in natural order."""

from __future__ import annotations

from pathlib import Path

from paraexport.errors import DataError
from paraexport.system.files import files_below

SUFFIXES = (
    *(".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm"),
    *(".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)


def image_files(path: Path) -> list[Path]:
    """`path` itself, or every image below a folder but hidden ones, in natural order: `2.png` before `10.png`.

    Raises:
        DataError: nothing there, a folder that cannot be read, or no file with an image's suffix.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise DataError("there is no such file or folder", where=path, remedy="check the path")
        return [path]
    files = [file for file in files_below(path) if file.suffix.lower() in SUFFIXES]
    if not files:
        raise DataError("no images", where=path, expected=f"files {' '.join(SUFFIXES)}", remedy="check the path")
    return files
