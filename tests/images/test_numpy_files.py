"""Files of arrays that are forged, doubled or far larger than they look: refused before their data is read."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from paraexport.errors import DataError
from paraexport.images import numpy_files
from paraexport.images.arrays import open_array
from paraexport.model.spec import Preprocessing
from paraexport.system.files import digest_path
from tests.faults.readers.arrays import join, member, npy_bytes

SIDE = 32
RGB = Preprocessing(image_size=(SIDE, SIDE), channels=3, resize=(SIDE, SIDE))
CLASSES = 3


def refused(path: Path, *, need_labels: bool = True) -> str:
    with pytest.raises(DataError) as caught:
        open_array(path, RGB, CLASSES, need_labels=need_labels)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def noise(count: int, dtype: str = "<f4") -> NDArray[np.float32]:
    return np.random.default_rng(0).random((count, 3, SIDE, SIDE), np.float32).astype(dtype)


@contextmanager
def at_most(allowed_bytes: int) -> Iterator[None]:
    """The memory that Python and NumPy allocate, including memory that is never touched."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= allowed_bytes
    finally:
        tracemalloc.stop()


def write_zeros(path: Path, count: int) -> None:
    """`images` of zeros, deflated to a thousandth."""
    head = npy_bytes(np.zeros((0, 3, SIDE, SIDE), np.float32)).replace(b"(0, ", f"({count}, ".encode())
    head = head[:8] + struct.pack("<H", len(head) - 10) + head[10:]
    image = bytes(4 * 3 * SIDE * SIDE)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("images.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(head)
        for _ in range(count):
            stream.write(image)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4"])
def test_npz_of_every_form_gives_the_numbers_that_were_saved(
    tmp_path: Path, dtype: str, order: str, compressed: bool
) -> None:
    images = noise(700, dtype)  # more than a piece
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "a.npz", images=np.asfortranarray(images) if order == "F" else images)
    source, _ = open_array(tmp_path / "a.npz", RGB, CLASSES, need_labels=False)
    np.testing.assert_array_equal(source.read(np.arange(700)), images.astype(np.float32))
    assert isinstance(source.images, np.memmap) is not compressed


def test_zeros_that_expand_without_end_are_refused_before_they_do(tmp_path: Path) -> None:
    write_zeros(tmp_path / "a.npz", 25_000)  # 307 MB in 1.3 MB
    assert (tmp_path / "a.npz").stat().st_size < 2e6
    with at_most(20_000_000):
        message = refused(tmp_path / "a.npz", need_labels=False)
    assert "too large to expand" in message
    assert "float32 [25000, 3, 32, 32], 307200000 bytes" in message
    assert "numpy.savez or numpy.save" in message


def test_what_shrinks_well_is_read_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zeros(tmp_path / "a.npz", 100)
    assert len(open_array(tmp_path / "a.npz", RGB, CLASSES, need_labels=False)[0]) == 100
    monkeypatch.setattr(numpy_files, "FREE_EXPANSION_BYTES", 1_228_799)
    assert "at most 1228799 bytes" in refused(tmp_path / "a.npz", need_labels=False)
    monkeypatch.setattr(numpy_files, "FREE_EXPANSION_BYTES", 1 << 28)
    monkeypatch.setattr(numpy_files, "memory_bytes", lambda: 2_000_000)
    assert "at most 1000000 bytes" in refused(tmp_path / "a.npz", need_labels=False)


def test_large_files_that_are_not_compressed_have_no_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_files, "memory_bytes", lambda: 1000)
    np.savez(tmp_path / "a.npz", images=noise(100))
    with at_most(12_000_000):
        assert len(open_array(tmp_path / "a.npz", RGB, CLASSES, need_labels=False)[0]) == 100


def test_foreign_arrays_are_named_and_not_read(tmp_path: Path) -> None:
    data = npy_bytes(np.zeros(250_000))
    (tmp_path / "a.npz").write_bytes(join([member(f"array{number}.npy", data, 8) for number in range(200)], None))
    with at_most(10_000_000):
        message = refused(tmp_path / "a.npz")
    assert "wrong arrays in the file" in message
    assert "got array0, array1, array2, array3, array4, array5, array6, array7 and 192 more" in message


@pytest.mark.parametrize(
    ("names", "got"),
    [
        (["images.npy", "images.npy"], "images, images"),
        (["images.npy", "images"], "images, images"),
        (["images.npy", "labels.npy", "labels.npy"], "images, labels, labels"),
        (["data/images.npy", "labels.npy"], "data/images, labels"),
        (["images.npy/"], "images.npy/"),
        (["../images.npy"], "../images"),
        (["a\nb.npy"], "a b"),
        (["x" * 5000], "x" * 40),
    ],
)
def test_names_that_are_not_each_of_the_two_once(tmp_path: Path, names: list[str], got: str) -> None:
    data = npy_bytes(noise(2))
    (tmp_path / "a.npz").write_bytes(join([member(name, data, 0) for name in names], None))
    message = refused(tmp_path / "a.npz")
    assert "wrong arrays in the file" in message
    assert f"got {got})" in message


def test_a_file_of_this_writer_is_read_as_numpys_own(tmp_path: Path) -> None:
    """The campaign damages what it writes."""
    arrays = {"images": noise(2), "labels": np.array([0, 2])}
    members = [member(f"{name}.npy", npy_bytes(array), 8) for name, array in arrays.items()]
    (tmp_path / "a.npz").write_bytes(join(members, None))
    with np.load(tmp_path / "a.npz") as known:
        np.testing.assert_array_equal(known["images"], arrays["images"])
    source, labels = open_array(tmp_path / "a.npz", RGB, CLASSES, need_labels=True)
    np.testing.assert_array_equal(source.read(np.arange(2)), arrays["images"])
    assert labels is not None
    assert labels.tolist() == [0, 2]


def with_header(text: str, data: bytes = bytes(24576), version: int = 2) -> bytes:
    header = text.encode() + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes((version, 0)) + size + header + data


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize(
    ("shape", "descr"),
    [
        ("(3, 3, 32, 32)", "<f4"),
        ("(1, 3, 32, 32)", "<f4"),
        ("(-2, -3, 32, 32)", "<f4"),
        (f"({2**62}, 3, 32, 32)", "<f4"),
        (f"({10**300}, 3, 32, 32)", "<f4"),
        ("(2.0, 3, 32, 32)", "<f4"),
        ("(2, 3, 32, 32)", "|O"),
        ("(2, 3, 32, 32)", "nonsense"),
        ("((((2", "<f4"),
        ("__import__('os').abort()", "<f4"),
    ],
)
def test_forged_headers(tmp_path: Path, suffix: str, shape: str, descr: str) -> None:
    data = with_header(f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}")
    if suffix == "npz":
        data = join([member("images.npy", data, 8)], None)
    (tmp_path / f"a.{suffix}").write_bytes(data)
    assert "not a NumPy file of plain arrays" in refused(tmp_path / f"a.{suffix}", need_labels=False)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_header_of_gigabytes_is_not_read(tmp_path: Path, suffix: str) -> None:
    data = b"\x93NUMPY\x02\x00" + struct.pack("<I", 80_000_000) + b" " * 80_000_000
    if suffix == "npz":
        data = join([member("images.npy", data, 8)], None)
    (tmp_path / f"a.{suffix}").write_bytes(data)
    del data
    with at_most(5_000_000):
        assert "not a NumPy file" in refused(tmp_path / f"a.{suffix}", need_labels=False)


def test_a_directory_of_a_million_entries_is_not_read(tmp_path: Path) -> None:
    one = member("images.npy", npy_bytes(noise(1)), 0)
    data = join([one], None)
    end = data.rindex(b"PK\x05\x06")
    start = data.index(b"PK\x01\x02")
    entry = data[start:end]
    wrong = data[:start] + entry * 40_000
    wrong += struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 40_000, 40_000, len(entry) * 40_000, start, 0)
    (tmp_path / "a.npz").write_bytes(wrong)
    with at_most(5_000_000):
        assert "not a NumPy file" in refused(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("method", "flags", "said"), [(14, 0, "method 14"), (12, 0, "method 12"), (8, 1, "encrypted"), (99, 0, "method 99")]
)
def test_members_that_numpy_does_not_write(tmp_path: Path, method: int, flags: int, said: str) -> None:
    one = member("images.npy", npy_bytes(noise(1)), 0)
    one = type(one)(one.name, one.data, method, one.size, one.packed, one.crc, flags)
    (tmp_path / "a.npz").write_bytes(join([one], None))
    message = refused(tmp_path / "a.npz", need_labels=False)
    assert "not a NumPy file" in message
    assert said in message


@pytest.mark.parametrize("compressed", [False, True])
def test_every_flipped_byte_of_the_numbers_is_noticed(tmp_path: Path, compressed: bool) -> None:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, images=noise(1))
    good = file.getvalue()
    for place in range(300, len(good) - 300, 997):
        damaged = bytearray(good)
        damaged[place] ^= 4
        (tmp_path / "a.npz").write_bytes(damaged)
        assert "not a NumPy file" in refused(tmp_path / "a.npz", need_labels=False)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_pipes_and_devices_are_refused_and_never_waited_for(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    (tmp_path / f"zero.{suffix}").symlink_to("/dev/zero")
    code = (
        "import sys; from pathlib import Path; from paraexport.images.arrays import open_array\n"
        "from paraexport.system import files; from paraexport.images.preprocess import read_image\n"
        "from tests.images.test_numpy_files import RGB\n"
        "calls = (lambda path: open_array(path, RGB, 3, need_labels=False), files.digest_path,\n"
        "         lambda path: read_image(path, 3))\n"
        "for name in sys.argv[1:]:\n"
        "    for call in calls:\n"
        "        try: call(Path(name))\n"
        "        except files.DataError as error: print(error.what, error.got)\n"
    )
    names = [str(tmp_path / f"{name}.{suffix}") for name in ("pipe", "zero")]
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines() == ["not a regular file a pipe"] * 3 + ["not a regular file a device"] * 3


def test_a_pipe_in_a_folder_is_left_out_of_its_digest(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    before = digest_path(tmp_path)
    os.mkfifo(tmp_path / "b.png")
    assert digest_path(tmp_path) == before
