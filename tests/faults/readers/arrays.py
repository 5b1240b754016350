"""Arrays of images in `.npy` and `.npz` files; since an `.npz` has checksums, its fields are damaged one by one."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from paraexport.images.arrays import open_array
from paraexport.model.spec import Preprocessing
from tests.faults.mutation import EDGES, mutate
from tests.faults.reader import Reader

IMAGES = Preprocessing(image_size=(8, 8), channels=3, resize=(8, 8))
CLASSES = 5
SIZES = (0, 1, 7, 127, 128, 10**6, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40)
NAMES = (
    *(b"images", b"labels.npy", b"images.npy/", b"a/images.npy", b"../images.npy", b"/images.npy", b"IMAGES.NPY", b""),
    *(b"images.npy\0", b"\xff\xfe.npy", "bilder ä.npy".encode(), b"a\nb.npy", b"x" * 65000, b"images.npy.npy"),
)
METHODS = (0, 1, 6, 8, 9, 12, 14, 93, 95, 98, 99, 0xFFFF)
DTYPES = ("|O", "<f8", ">f4", "<f2", "|V0", "|S0", "<U1", "|b1", "<M8[ns]", "|u1", "<i8", "<f4", "|V99999999999", "x")
SHAPES: tuple[object, ...] = (
    *((), (0,), (5,), (-1, 3, 8, 8), (5, 3, 8, 8), (5, 8, 8, 3), (2**63, 3, 8, 8), (2**31, 3, 8, 8), (10**9, 1, 1, 3)),
    *((True, 3, 8, 8), (5, 3, 8), (0, 3, 8, 8), (5, 0, 8, 3), (1,) * 70, "5", None, (5.0, 3, 8, 8), (10**400, 3, 8, 8)),
)


def npy_files(folder: Path) -> Sequence[bytes]:
    pick = np.random.default_rng(0)
    np.save(folder / "raw.npy", pick.integers(0, 256, (5, 8, 8, 3), np.uint8))
    np.save(folder / "prepared.npy", pick.random((5, 3, 8, 8), np.float32))
    return [file.read_bytes() for file in sorted(folder.iterdir())]


def npz_files(folder: Path) -> Sequence[bytes]:
    pick, labels = np.random.default_rng(0), np.arange(CLASSES)
    raw, prepared = pick.integers(0, 256, (5, 8, 8, 3), np.uint8), pick.random((5, 3, 8, 8), np.float32)
    np.savez(folder / "a.npz", images=raw, labels=labels)
    np.savez_compressed(folder / "b.npz", images=prepared, labels=labels)
    np.savez_compressed(folder / "c.npz", images=np.asfortranarray(prepared), labels=labels.astype(np.uint8))
    return [file.read_bytes() for file in sorted(folder.iterdir())]


@dataclass(frozen=True)
class Member:
    """One entry of a zip file, with whatever its headers say of it."""

    name: bytes
    data: bytes
    """As it stands in the file."""
    method: int
    size: int
    packed: int
    crc: int
    flags: int = 0
    extra: bytes = b""
    local: tuple[tuple[str, int], ...] = ()
    """Fields that only the local header has wrong."""
    shift: int = 0
    """By how much the directory points beside it."""

    def header(self, signature: bytes, **fields: int) -> bytes:
        said = {name: fields.get(name, getattr(self, name)) for name in ("method", "size", "packed", "crc", "flags")}
        wide = ((1 << 16) - 1, (1 << 32) - 1)
        start = struct.pack("<HHHHH", 45, said["flags"] & wide[0], said["method"] & wide[0], 0, 33)
        numbers = struct.pack("<III", *(said[name] & wide[1] for name in ("crc", "packed", "size")))
        lengths = struct.pack("<HH", len(self.name), len(self.extra))
        return signature + (b"\x2d\0" if signature == b"PK\x01\x02" else b"") + start + numbers + lengths


def member(name: str, data: bytes, method: int) -> Member:
    packed = data
    if method == zipfile.ZIP_DEFLATED:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(data) + packer.flush()
    return Member(name.encode(), packed, method, len(data), len(packed), zlib.crc32(data))


def join(members: Sequence[Member], pick: Random | None) -> bytes:
    """A zip file; with `pick` its last record may say wrong numbers too."""
    whole, directory = b"", b""
    for one in members:
        place = len(whole) + one.shift
        whole += one.header(b"PK\x03\x04", **dict(one.local)) + one.name + one.extra + one.data
        rest = struct.pack("<HHHII", 0, 0, 0, 0, place & 0xFFFFFFFF)
        directory += one.header(b"PK\x01\x02") + rest + one.name + one.extra
    numbers = [len(members), len(members), len(directory), len(whole)]
    tail = b""
    if pick is not None and pick.random() < 0.3:
        numbers[pick.randrange(4)] = pick.choice(EDGES)
    if pick is not None and pick.random() < 0.2:
        tail = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, *(n & (2**64 - 1) for n in numbers))
        tail += struct.pack("<4sIQI", b"PK\x06\x07", 0, len(whole) + len(directory), 1)
        numbers = [0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF]
    masks = (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, *(n & m for n, m in zip(numbers, masks, strict=True)), 0)
    return whole + directory + tail + end


def npy_bytes(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def forge_header(data: bytes, pick: Random) -> bytes:
    """Another shape, dtype, order or length in the header of `.npy` data."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (5, 3, 8, 8)}
    for _ in range(pick.choice((1, 1, 2))):
        key = pick.choice(("descr", "shape", "shape", "fortran_order", "more"))
        header[key] = pick.choice({"descr": DTYPES, "shape": SHAPES}.get(key, (True, None, 1, "x")))
    text = repr(header).encode() + b" " * pick.choice((0, 40, 9000, 70000)) + b"\n"
    version = pick.choice((1, 1, 2, 2, 3, 4, 0, 255))
    length = len(text) if pick.random() < 0.8 else pick.choice(EDGES)
    size = struct.pack("<H", length & 0xFFFF) if version == 1 else struct.pack("<I", length & 0xFFFFFFFF)
    return b"\x93NUMPY" + bytes((version, 0)) + size + text + data[128:]


def bomb(pick: Random) -> Member:
    """Zeros that shrink to a thousandth."""
    shape = pick.choice(((5, 3, 8, 8), (20_000, 3, 8, 8), (100_000, 3, 8, 8)))
    start = npy_bytes(np.zeros((0, *shape[1:]), np.float32)).replace(b"(0, 3", f"({shape[0]}, 3".encode())
    start = start[:6] + b"\x01\0" + struct.pack("<H", len(start) - 10) + start[10:]
    return member("images.npy", start + bytes(4 * int(np.prod(shape))), zipfile.ZIP_DEFLATED)


def damage_member(one: Member, pick: Random) -> Member:
    edge = pick.choice((pick.choice(EDGES), pick.choice(SIZES), one.size - 1, one.size + 1))
    field = pick.choice(("size", "packed", "crc", "method", "flags"))
    wrong = {"method": pick.choice(METHODS), "flags": pick.choice((1, 8, 0x20, 0x40, 0x800, 0x2000, 0xFFFF))}
    wide = struct.pack("<HHQQQ", 1, 24, edge, pick.choice(SIZES), pick.choice(SIZES))
    changes: tuple[Callable[[], Member], ...] = (
        lambda: replace(one, **{field: wrong.get(field, edge)}),  # type: ignore[arg-type]
        lambda: replace(one, local=((field, wrong.get(field, edge)),)),
        lambda: replace(one, name=pick.choice(NAMES), flags=pick.choice((0, 0x800))),
        lambda: replace(one, shift=pick.choice((-1, 1, -100, 1000, 2**31))),
        lambda: replace(one, extra=wide[: pick.choice((3, 4, 12, 28))], size=0xFFFFFFFF, packed=0xFFFFFFFF),
        lambda: replace(one, data=mutate(one.data, pick)),
        lambda: bomb(pick),
    )
    return pick.choice(changes)()


def damage_npz(data: bytes, pick: Random) -> bytes:
    """Bytes changed anywhere, or a zip file that was written again with wrong fields."""
    if pick.random() < 0.2:
        return mutate(data, pick)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        contents = [(info.filename, archive.read(info), info.compress_type) for info in archive.infolist()]
    if pick.random() < 0.4:
        number = pick.randrange(len(contents))
        name, inside, method = contents[number]
        contents[number] = (name, pick.choice((forge_header, mutate))(inside, pick), method)
        return join([member(*content) for content in contents], None)
    made = [member(*content) for content in contents]
    for _ in range(pick.choice((1, 1, 2))):
        action, number = pick.random(), pick.randrange(len(made))
        if action < 0.7:
            made[number] = damage_member(made[number], pick)
        elif action < 0.8:
            made.insert(number, pick.choice((made[number], member("more.npy", b"x" * 100, 8))))
        elif action < 0.85:
            made += [member(f"array{count}.npy", b"\x93NUMPY", 0) for count in range(pick.choice((1, 300, 20_000)))]
    return join(made, pick)


def damage_npy(data: bytes, pick: Random) -> bytes:
    return forge_header(data, pick) if pick.random() < 0.4 else mutate(data, pick)


def read(file: Path) -> None:
    source, _ = open_array(file, IMAGES, CLASSES, need_labels=False)
    source.read(np.arange(min(len(source), 100)))


def read_labelled(file: Path) -> None:
    source, labels = open_array(file, IMAGES, CLASSES, need_labels=True)
    assert labels is not None
    assert len(labels) == len(source)
    assert 0 <= labels.min() <= labels.max() < CLASSES
    source.read(np.arange(len(source)))


READERS = (
    Reader("npy", npy_files, read, ".npy", damage_npy),
    Reader("npz", npz_files, read_labelled, ".npz", damage_npz),
)
