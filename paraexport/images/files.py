"""Finds the image files in a folder."""

from __future__ import annotations

from pathlib import Path

from paraexport.errors import DataError
from paraexport.system.files import files_below

SUFFIXES = (
    *(".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm"),
    *(".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)


def image_files(path: Path) -> list[Path]:
    """`path` itself if it is a file, or all images in the folder and its subfolders, without hidden ones.

    They are in natural order: `2.png` before `10.png`.

    Raises:
        DataError: there is nothing at `path`, a folder cannot be read, or no file has the suffix of an image.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise DataError("there is no such file or folder", where=path, remedy="check the path")
        return [path]
    files = [file for file in files_below(path) if file.suffix.lower() in SUFFIXES]
    if not files:
        expected, remedy = f"files {' '.join(SUFFIXES)}", "check the path, or convert the images"
        raise DataError("no images", where=path, expected=expected, remedy=remedy)
    return files
