"""The component for image files reads the pixels that Python reads."""

from __future__ import annotations

import ctypes
import io
import struct
import zlib
from ctypes import POINTER, c_char_p, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from paraexport.errors import DataError
from paraexport.images.preprocess import read_image
from tests.conftest import TEST_IMAGES
from tests.cpp.library import BAD_INPUT, Pixels


class Images:
    def __init__(self, file: Path) -> None:
        self.c: Any = ctypes.CDLL(str(file))
        self.c.paraexport_image_last_error.restype = c_char_p
        self.c.paraexport_image_pixels.argtypes = (c_void_p, POINTER(Pixels))
        self.c.paraexport_image_close.argtypes = (c_void_p,)
        self.c.paraexport_image_decode.argtypes = (c_char_p, c_size_t, POINTER(c_void_p))

    def read(self, path: Path) -> NDArray[np.uint8] | str:
        """[H, W, 1 or 3], or the error."""
        image = c_void_p()
        status = self.c.paraexport_image_open(str(path).encode(), ctypes.byref(image))
        if status:
            assert status == BAD_INPUT
            return str(self.c.paraexport_image_last_error().decode())
        pixels = Pixels(ctypes.sizeof(Pixels))
        assert self.c.paraexport_image_pixels(image, ctypes.byref(pixels)) == 0
        shape = (pixels.height, pixels.width, pixels.channels)
        array = np.ctypeslib.as_array(ctypes.cast(pixels.data, POINTER(ctypes.c_uint8)), shape).copy()
        self.c.paraexport_image_close(image)
        return array


@pytest.fixture(scope="module")
def images(cpp_build: Path) -> Images:
    files = [*cpp_build.rglob("libparaexport_images.so")]
    if not files:
        pytest.skip("needs libpng and libjpeg: apt install libpng-dev libjpeg-dev")
    return Images(files[0])


def require_equal(images: Images, path: Path) -> None:
    got = images.read(path)
    assert not isinstance(got, str), got
    np.testing.assert_array_equal(got if got.shape[2] == 3 else np.repeat(got, 3, 2), read_image(path, 3))
    if got.shape[2] == 1:
        np.testing.assert_array_equal(got, read_image(path, 1))


def drawn(pick: np.random.Generator, mode: str) -> Image.Image:
    height, width = (int(side) for side in pick.integers(1, 70, 2))
    if mode == "I;16":
        return Image.fromarray(pick.integers(0, 65536, (height, width), np.uint16))
    colour = Image.fromarray(pick.integers(0, 256, (height, width, 4), np.uint8), "RGBA")
    if pick.random() < 0.5:  # smooth, as photos are
        colour = colour.resize((max(1, width // 6), max(1, height // 6))).resize((width, height))
    return colour.convert(mode) if mode != "P" else colour.convert("RGB").quantize(int(pick.integers(2, 256)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "I;16"])
def test_png_files_of_every_mode(mode: str, images: Images, tmp_path: Path) -> None:
    pick = np.random.default_rng(len(mode))
    for _ in range(40):
        image = drawn(pick, mode)
        options: dict[str, Any] = {"compress_level": int(pick.integers(0, 9))}
        if mode == "P" and pick.random() < 0.5:
            options["transparency"] = 0
        if mode == "P":
            options["bits"] = 8
        image.save(tmp_path / "a.png", **options)
        require_equal(images, tmp_path / "a.png")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_png_files_with_few_bits(bits: int, images: Images, tmp_path: Path) -> None:
    """Palettes and grey with less than 8 bits, written by hand, because Pillow writes no such grey."""
    pick = np.random.default_rng(bits)
    for colour in (0, 3):
        width, height = 19, 7
        rows = b"".join(b"\0" + pick.bytes((width * bits + 7) // 8) for _ in range(height))
        palette = [(b"PLTE", pick.bytes(3 * 2**bits))] if colour == 3 else []
        chunks = [*palette, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
        (tmp_path / "a.png").write_bytes(png(width, height, bits, colour, chunks))
        require_equal(images, tmp_path / "a.png")


def png(width: int, height: int, bits: int, colour: int, chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG file with these chunks after its header."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in (header, *chunks)
    )


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_files(subsampling: int, progressive: bool, images: Images, tmp_path: Path) -> None:
    pick = np.random.default_rng(subsampling)
    for number in range(40):
        image = drawn(pick, "L" if number % 5 == 0 else "RGB")
        quality = int(pick.integers(5, 100))
        image.save(tmp_path / "a.jpg", quality=quality, subsampling=subsampling, progressive=progressive)
        require_equal(images, tmp_path / "a.jpg")


def test_the_images_of_the_example(images: Images) -> None:
    for path in sorted(TEST_IMAGES.rglob("*.png"))[::10]:
        require_equal(images, path)


def test_truncated_files_are_refused(images: Images, tmp_path: Path) -> None:
    for kind in ("PNG", "JPEG"):
        stream = io.BytesIO()
        drawn(np.random.default_rng(3), "RGB").save(stream, kind)
        content = stream.getvalue()
        for size in range(4, len(content) - 40, max(1, len(content) // 60)):
            (tmp_path / "a").write_bytes(content[:size])
            with pytest.raises(DataError):
                read_image(tmp_path / "a", 3)
            got = images.read(tmp_path / "a")
            assert isinstance(got, str), size
            assert "truncated or damaged" in got or "not an image" in got


def test_other_formats_are_refused_by_name(images: Images, tmp_path: Path) -> None:
    drawn(np.random.default_rng(0), "RGB").save(tmp_path / "a.bmp")
    drawn(np.random.default_rng(0), "CMYK").save(tmp_path / "cmyk.jpg")
    (tmp_path / "empty").write_bytes(b"")
    for name, message in (
        ("a.bmp", "not an image that is read here (expected PNG or JPEG, got a file that starts with 42 4d"),
        ("cmyk.jpg", "a JPEG file with other colours than grey and RGB"),
        ("empty", "the file is empty"),
        ("nothing", "there is no such file"),
        (".", "not a regular file"),
    ):
        got = images.read(tmp_path / name)
        assert isinstance(got, str)
        assert message in got


def test_names_are_printable_and_shortened(images: Images) -> None:
    assert images.read(Path("/nowhere/\x1b[0m\né")) == "/nowhere/\\x1b[0m\\né: there is no such file; check the path"
    text = images.read(Path("/nowhere/" + "é" * 3000))
    assert isinstance(text, str)
    assert text.startswith("…é")
    assert text.endswith(("é: not a regular file, expected one image file", "check the path"))


def test_a_bomb_is_refused(images: Images, tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png(60000, 60000, 1, 0, [(b"IDAT", b""), (b"IEND", b"")]))
    got = images.read(tmp_path / "bomb.png")
    assert isinstance(got, str)
    assert "the image is too large to open safely" in got
