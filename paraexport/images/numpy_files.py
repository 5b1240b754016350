"""Reads arrays from `.npy` and `.npz` files: names, shapes and sizes first, and the data only when needed.

`.npy` files and uncompressed members of `.npz` files are mapped into memory, at any size. A compressed member is
expanded; `MOST_EXPANSION`, `FREE_EXPANSION_BYTES` and half of the memory limit its expanded size.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from paraexport.errors import DataError, ParaexportError, on_one_line
from paraexport.system.files import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_EXPANSION = 100
"""Largest expanded size, as a multiple of the file size. Photographs and drawings stay below it, zeros do not."""
FREE_EXPANSION_BYTES = 1 << 28
"""An expanded array of this size is always allowed, even in a small file."""
USUAL_MEMORY_BYTES = 1 << 35
"""Assumed if the system does not report its memory."""
HEAD_BYTES = 1 << 14
"""Read for a header. NumPy itself refuses longer headers from files that it does not trust."""
PIECE_BYTES = 1 << 20
"""Read at a time. The zip directory must fit too, and it has only two names."""
LOCAL_HEADER = struct.Struct("<26xHH")
"""The header of a zip member, with the lengths of its name and extra field. These come before the data."""
NAME_SHOWN, NAMES_SHOWN = 40, 8


@dataclass(frozen=True)
class StoredArray:
    """Type and shape of an array, from its header; `read` returns the array itself.

    `read` raises a `DataError` if the data is damaged, or if it would expand too much.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    read: Callable[[], NDArray[Any]]


@dataclass(frozen=True)
class Header:
    """The header of `.npy` data, checked against the size of the data."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: str
    """`C` or `F`."""
    offset: int
    """The position of the first number, in bytes."""
    size_bytes: int
    """The size of the numbers."""


class SmallPieces(io.FileIO):
    """A file that refuses large reads, so that a forged length cannot fill the memory."""

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > PIECE_BYTES:
            raise ValueError(f"a part of {wanted} bytes, expected at most {PIECE_BYTES}")
        return super().read(wanted) or b""


def stored_arrays(path: Path) -> dict[str, StoredArray]:
    """Every array in `path` by its name. The array in a `.npy` file is called `images`.

    Only the names and headers are read.

    Raises:
        DataError: not a regular file, not a NumPy file, arrays other than `images` and `labels`, or a header that does
            not fit the data.
    """
    with refuse_damaged(path), open_small(path) as file:
        if file.read(6) == np.lib.format.MAGIC_PREFIX:
            file.seek(0)
            header = read_header(file, os.fstat(file.fileno()).st_size)
            return {"images": StoredArray(header.dtype, header.shape, lambda: map_array(path, header, 0))}
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            return {name: stored_member(path, archive, info) for name, info in members(path, archive).items()}


@contextmanager
def refuse_damaged(path: Path) -> Iterator[None]:
    """Turn a library's error about a damaged file into a `DataError`."""
    try:
        yield
    except ParaexportError:
        raise
    except Exception as error:  # ValueError, OSError, EOFError, BadZipFile, zlib.error, struct.error, …
        raise DataError(
            "not a NumPy file of plain arrays",
            where=path,
            expected="an array in .npy, or images and labels in .npz",
            got=on_one_line(error) or type(error).__name__,
            remedy="save it again with numpy.save or numpy.savez",
        ) from error


@contextmanager
def open_small(path: Path) -> Iterator[SmallPieces]:
    with open_regular(path) as file, SmallPieces(file.fileno(), closefd=False) as small:
        yield small


def members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members `images` and, if there is one, `labels`."""
    infos = archive.infolist()
    names = [info.filename.removesuffix(".npy") for info in infos]
    if "images" not in names or {*names} - {"images", "labels"} or len({*names}) < len(names):
        shown = [on_one_line(name[:NAME_SHOWN]) for name in names[:NAMES_SHOWN]]
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        raise DataError(
            "wrong arrays in the file",
            where=path,
            expected="images once, and labels at most once",
            got=", ".join(shown) + more or "none",
            remedy="save it again with numpy.savez(path, images=..., labels=...)",
        )
    return dict(zip(names, infos, strict=True))


def stored_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> StoredArray:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename} is compressed by method {info.compress_type}, expected 0 or 8 (deflate)")
    with archive.open(info) as stream:
        header = read_header(stream, info.file_size)
    return StoredArray(header.dtype, header.shape, lambda: read_member(path, info, header))


def read_header(stream: IO[bytes], size_bytes: int) -> Header:
    """The header of `.npy` data; `size_bytes` is the size of header and data together."""
    head = io.BytesIO(stream.read(HEAD_BYTES))
    version = np.lib.format.read_magic(head)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"header version {version}, expected 1.0 or 2.0: those of plain arrays")
    shape, is_fortran, dtype = readers[version](head)
    if dtype.hasobject:
        raise ValueError("Python objects, expected plain numbers")
    if any(side < 0 for side in shape):
        raise ValueError(f"impossible shape {list(shape)}")
    shape = tuple(map(int, shape))
    offset, data_bytes = head.tell(), math.prod(shape) * dtype.itemsize
    if offset + data_bytes != size_bytes:
        raise ValueError(
            f"the header says {dtype} {list(shape)}, which is {data_bytes} bytes, but there are {size_bytes - offset}"
        )
    return Header(dtype, shape, "F" if is_fortran else "C", offset, data_bytes)


def read_member(path: Path, info: zipfile.ZipInfo, header: Header) -> NDArray[Any]:
    """The array of a zip member, after its checksum is verified. An uncompressed member is mapped into memory."""
    with refuse_damaged(path), open_small(path) as file, zipfile.ZipFile(file) as archive:
        if info.compress_type == zipfile.ZIP_STORED:
            with archive.open(info) as stream:
                while stream.read(PIECE_BYTES):  # read to the end, because zipfile checks the checksum there
                    pass
            file.seek(info.header_offset)
            header_bytes = LOCAL_HEADER.size + sum(LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size)))
            return map_array(path, header, info.header_offset + header_bytes)
        require_affordable(path, header, os.fstat(file.fileno()).st_size)
        with archive.open(info) as stream:
            stream.read(header.offset)
            flat, filled = np.empty(header.size_bytes, np.uint8), 0
            while piece := stream.read(PIECE_BYTES):
                flat[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
                filled += len(piece)
            if filled != len(flat):
                raise ValueError(f"{filled} bytes of numbers, but the header says {len(flat)}")
        return flat.view(header.dtype).reshape(header.shape, order=header.order)  # type: ignore[call-overload]


def require_affordable(path: Path, header: Header, file_bytes: int) -> None:
    """Raise a `DataError` if a compressed array is larger than allowed for a file of this size."""
    most = min(max(FREE_EXPANSION_BYTES, MOST_EXPANSION * file_bytes), memory_bytes() // 2)
    if header.size_bytes > most:
        raise DataError(
            "the compressed array is too large to expand",
            where=path,
            expected=f"at most {most} bytes: {MOST_EXPANSION} times the size of the file, and half of the memory",
            got=f"{header.dtype} {list(header.shape)}, {header.size_bytes} bytes, from a file of {file_bytes}",
            remedy="save it uncompressed with numpy.savez or numpy.save, which has no limit",
        )


def memory_bytes() -> int:
    """The memory of this machine."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return USUAL_MEMORY_BYTES


def map_array(path: Path, header: Header, start: int) -> NDArray[Any]:
    """The array whose `.npy` data begins at `start`. Its pages are read from the disk when they are used."""
    with refuse_damaged(path):
        if not header.size_bytes:
            return np.empty(header.shape, header.dtype)
        offset = start + header.offset
        return np.memmap(path, header.dtype, "r", offset, header.shape, header.order)  # type: ignore[call-overload]
