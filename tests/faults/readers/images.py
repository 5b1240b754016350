"""Image files of every format that is read, damaged at random, in their structure, or made to claim a huge size."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from paraexport.images.preprocess import prepare_file
from paraexport.model.spec import Preprocessing
from tests.faults.mutation import mutate
from tests.faults.reader import Reader

IMAGES = Preprocessing(image_size=(8, 8), channels=3, resize=10)
MEMORY_MB = 1024
"""For one image of at most 89 million pixels, which is Pillow's bound: 4 bytes for each, and two copies of 3 bytes."""
SIDES = (0, 1, 7, 255, 9_000, 20_000, 65_535, 2**31 - 1, 2**32 - 1)


def picture(mode: str, size: tuple[int, int] = (24, 16)) -> Image.Image:
    pick = np.random.default_rng(0)
    width, height = size
    smooth = np.linspace(0, 200, width * height * 3).reshape(height, width, 3) + pick.integers(
        0, 40, (height, width, 3)
    )
    image = Image.fromarray(smooth.astype(np.uint8))
    return Image.fromarray((smooth[..., 0] * 257).astype(np.uint16)) if mode == "I;16" else image.convert(mode)


Variant = tuple[str, str, dict[str, Any]]
"""(format, mode, options of Pillow's `save`)."""
VARIANTS: tuple[Variant, ...] = (
    *(("png", "RGB", {}), ("png", "P", {}), ("png", "LA", {}), ("png", "I;16", {}), ("png", "1", {})),
    *(("jpeg", "RGB", {}), ("jpeg", "L", {"progressive": True}), ("jpeg", "CMYK", {})),
    *(("tiff", "RGB", {"compression": "tiff_lzw"}), ("tiff", "I;16", {}), ("tiff", "L", {"compression": "jpeg"})),
    *(("webp", "RGB", {}), ("webp", "RGBA", {"lossless": True}), ("gif", "P", {}), ("gif", "L", {})),
    *(("bmp", "RGB", {}), ("bmp", "P", {}), ("bmp", "1", {}), ("ppm", "RGB", {}), ("ppm", "L", {})),
    *(("jpeg2000", "RGB", {}), ("jpeg2000", "L", {})),
)


def seeds(_folder: Path) -> Sequence[bytes]:
    files = []
    for kind, mode, options in VARIANTS:
        stream = io.BytesIO()
        picture(mode).save(stream, kind, **options)
        files.append(stream.getvalue())
    return files


def read(file: Path) -> None:
    prepare_file(file, IMAGES)


def damage_png(data: bytes, pick: Random) -> bytes:
    """PNG has a checksum for each chunk: half of the files get right ones again, and some of these a huge size."""
    if pick.random() < 0.4:
        return mutate(data, pick)
    chunks = chunks_of(data)
    kind, body = chunks[index := pick.randrange(len(chunks))]
    if kind == b"IHDR" and pick.random() < 0.7:
        body = struct.pack(">II", pick.choice(SIDES), pick.choice(SIDES)) + body[8:]
    elif kind == b"IDAT" and pick.random() < 0.7:
        body = zlib.compress(mutate(zlib.decompress(body), pick))
    elif body:
        body = mutate(body, pick)
    chunks[index] = kind, body
    if pick.random() < 0.2:
        chunks.insert(pick.randrange(len(chunks) + 1), pick.choice(chunks))
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += length + 12
    return chunks


def with_sizes(places: Sequence[int], form: str) -> Callable[[bytes, Random], bytes]:
    """Besides random damage, sizes of the image that its bytes do not bear out, at these places of the header."""

    def damage(data: bytes, pick: Random) -> bytes:
        if pick.random() < 0.7:
            return mutate(data, pick)
        changed = bytearray(data)
        largest = 2 ** (8 * struct.calcsize(form)) - 1
        for place in places:
            struct.pack_into(form, changed, place, min(pick.choice(SIDES), largest))
        return bytes(changed)

    return damage


def damage_ppm(data: bytes, pick: Random) -> bytes:
    """The head of a PPM is text."""
    if pick.random() < 0.5:
        return mutate(data, pick)
    return data.replace(b"24 16", f"{pick.choice(SIDES)} {pick.choice(SIDES)}".encode(), 1)


BY_START: dict[bytes, Callable[[bytes, Random], bytes]] = {
    b"\x89PNG": damage_png,
    b"GIF8": with_sizes((6, 8), "<H"),
    b"BM": with_sizes((18, 22), "<I"),
    b"P": damage_ppm,
}


def damage(data: bytes, pick: Random) -> bytes:
    return next((change for start, change in BY_START.items() if data.startswith(start)), mutate)(data, pick)


READERS = (Reader("images", seeds, read, ".image", damage, MEMORY_MB),)
