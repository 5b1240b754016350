"""Preprocessing against Pillow and float64 arithmetic, and every way in which an image file can be unusable."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from paraexport.errors import DataError, SpecError
from paraexport.images.preprocess import prepare_batch, prepare_file, prepare_pixels, read_image
from paraexport.model.spec import Interpolation, Preprocessing
from tests.images.resampling import resized


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def plain(height: int, width: int, channels: int = 3) -> Preprocessing:
    """Nothing but the division by 255."""
    return Preprocessing(image_size=(height, width), channels=channels, resize=(height, width), mean=(0.0,), std=(1.0,))


def levels(tensor: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[C, H, W] on the 0..1 scale -> uint8 [H, W, C]."""
    return np.rint(tensor.transpose(1, 2, 0) * 255).astype(np.uint8)


def png_bytes(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by its specification, for forms that Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


# ---- the arithmetic ----


def test_values_by_hand(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[0, 51, 255], [102, 153, 204]]], np.uint8)).save(tmp_path / "a.png")
    preprocessing = Preprocessing(
        image_size=(1, 2), channels=3, resize=(1, 2), mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0)
    )
    got = prepare_file(tmp_path / "a.png", preprocessing)
    assert got.dtype == np.float32
    assert got.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(got, [[[-1.0, -0.2]], [[-0.2, 1.4]], [[0.5, 0.4]]], atol=1e-6)


@given(
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(0.05, 1)] * 3),
    seed=st.integers(0, 1000),
)
def test_normalisation_is_the_formula(mean: tuple[float, ...], std: tuple[float, ...], seed: int) -> None:
    pixels = noise(3, 4, 3, seed=seed)
    got = prepare_pixels(pixels, Preprocessing(image_size=(3, 4), channels=3, resize=(3, 4), mean=mean, std=std))
    expected = (pixels / 255.0 - np.array(mean)) / np.array(std)  # float64
    # three float32 roundings, the first two of numbers up to 1, divided by std >= 0.05
    np.testing.assert_allclose(got, expected.transpose(2, 0, 1), rtol=3e-7, atol=2e-7 / 0.05)


def test_one_mean_serves_all_channels() -> None:
    pixels = noise(4, 4, 3)
    each = Preprocessing(image_size=(4, 4), channels=3, resize=4, mean=(0.4,) * 3, std=(0.2,) * 3)
    one = Preprocessing(image_size=(4, 4), channels=3, resize=4, mean=(0.4,), std=(0.2,))
    np.testing.assert_array_equal(prepare_pixels(pixels, each), prepare_pixels(pixels, one))


def test_three_roundings_to_float32() -> None:
    """The C++ side repeats these operations and must get the same bits."""
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    got = prepare_pixels(
        pixels, Preprocessing(image_size=(16, 16), channels=1, resize=16, mean=(0.1307,), std=(0.3081,))
    )
    for value in range(256):
        scaled = np.float32(value) / np.float32(255)
        assert got.flat[value] == (scaled - np.float32(0.1307)) / np.float32(0.3081)


# ---- resize and crop ----


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    target=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
    channels=st.sampled_from([1, 3]),
)
def test_exact_resize_is_pillows_algorithm_with_the_width_first(
    height: int, width: int, target: tuple[int, int], interpolation: Interpolation, channels: int
) -> None:
    pixels = noise(height, width, channels, seed=height * 41 + width)
    preprocessing = Preprocessing(
        image_size=target, channels=channels, resize=target, interpolation=interpolation, mean=(0.0,), std=(1.0,)
    )
    expected = resized(pixels, *target, interpolation)
    np.testing.assert_array_equal(levels(prepare_pixels(pixels, preprocessing)), expected)


def test_the_width_comes_first_where_pillow_13_starts_with_the_height() -> None:
    pixels = noise(40, 8, 1, seed=3)
    got = levels(prepare_pixels(pixels, plain(4, 7, 1)))
    np.testing.assert_array_equal(got, resized(pixels, 4, 7, "bilinear"))
    other_order = resized(pixels.transpose(1, 0, 2), 7, 4, "bilinear").transpose(1, 0, 2)
    assert (got != other_order).any()


def test_a_shape_that_would_fill_the_memory_between_the_passes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="1x500 pixels would be resized to 20x500"):
        prepare_pixels(noise(500, 1, 1), plain(4, 20, 1))


def test_bilinear_is_antialiased() -> None:
    """Halving a triangle filter by hand: output 0 covers inputs 0..2 with weights 3, 3, 1 over 7."""
    pixels = np.array([70, 140, 210, 0], np.uint8).reshape(1, 4, 1)
    got = levels(prepare_pixels(pixels, plain(1, 2, 1)))
    assert got[0, 0, 0] == round((3 * 70 + 3 * 140 + 210) / 7)


@pytest.mark.parametrize(
    ("height", "width", "shorter", "expected"),
    [
        (480, 640, 256, (256, 341)),  # 256 * 640 / 480 = 341.33
        (640, 480, 256, (341, 256)),
        (500, 333, 256, (384, 256)),  # 256 * 500 / 333 = 384.38
        (100, 199, 50, (50, 99)),  # 99.5 goes down
        (7, 7, 7, (7, 7)),
    ],
)
def test_shorter_side(height: int, width: int, shorter: int, expected: tuple[int, int]) -> None:
    pixels = noise(height, width, 1)
    got = levels(
        prepare_pixels(pixels, Preprocessing(image_size=expected, channels=1, resize=shorter, mean=(0.0,), std=(1.0,)))
    )
    np.testing.assert_array_equal(got, resized(pixels, *expected, "bilinear"))


@given(st.integers(1, 6000), st.integers(1, 6000), st.integers(1, 1024))
def test_integer_division_is_torchvisions_float_division(shorter: int, longer: int, size: int) -> None:
    assert size * longer // shorter == int(size * longer / shorter)


@pytest.mark.parametrize(
    ("height", "crop", "top"),
    [(4, 4, 0), (5, 4, 0), (6, 4, 1), (7, 4, 2), (8, 4, 2), (9, 4, 2), (10, 4, 3), (11, 4, 4)],
)
def test_centre_crop_rounds_half_to_even(height: int, crop: int, top: int) -> None:
    pixels = np.arange(height * height, dtype=np.uint8).reshape(height, height, 1)
    got = levels(
        prepare_pixels(
            pixels, Preprocessing(image_size=(crop, crop), channels=1, resize=height, mean=(0.0,), std=(1.0,))
        )
    )
    np.testing.assert_array_equal(got, pixels[top : top + crop, top : top + crop])


def test_a_fitting_image_is_not_resized() -> None:
    pixels = noise(5, 9, 3)
    got = levels(
        prepare_pixels(pixels, Preprocessing(image_size=(5, 9), channels=3, resize=5, mean=(0.0,), std=(1.0,)))
    )
    np.testing.assert_array_equal(got, pixels)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_other_channel_counts_are_resized_band_by_band(channels: int) -> None:
    pixels = noise(6, 8, channels)
    got = levels(prepare_pixels(pixels, plain(3, 4, channels)))
    np.testing.assert_array_equal(got, resized(pixels, 3, 4, "bilinear"))


def test_batch_is_its_images() -> None:
    batch = noise(5, 9, 7, 3)
    preprocessing = Preprocessing(image_size=(4, 4), channels=3, resize=5, mean=(0.1, 0.2, 0.3), std=(0.4,))
    expected = np.stack([prepare_pixels(pixels, preprocessing) for pixels in batch])
    np.testing.assert_array_equal(prepare_batch(batch, preprocessing), expected)
    assert prepare_batch(batch[:0], preprocessing).shape == (0, 3, 4, 4)


# ---- channels ----


def luma(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """ITU-R 601 in float64."""
    return rgb[..., :3].astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def integer_luma(rgb: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The same in the fixed-point numbers of the definition."""
    red, green, blue = rgb.astype(np.int64).transpose(2, 0, 1)
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"]),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    seed=st.integers(0, 10_000),
)
def test_modes_give_pillows_colours(tmp_path: Path, mode: str, height: int, width: int, seed: int) -> None:
    bands = {"1": 1, "L": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    raw = noise(height, width, bands, seed=seed)
    if mode == "1":
        image = Image.fromarray(raw[:, :, 0] > 127)
        rgb = np.repeat(np.where(raw > 127, 255, 0).astype(np.uint8), 3, axis=2)
    elif mode == "P":
        colours = noise(256, 3, seed=seed + 1)
        image = Image.fromarray(raw[:, :, 0]).convert("P")
        image.putpalette(colours.tobytes())
        rgb = colours[raw[:, :, 0]]
    else:
        image = Image.frombytes(mode, (width, height), raw.tobytes())
        rgb = np.repeat(raw[:, :, :1], 3, axis=2) if mode in ("L", "LA") else raw[:, :, :3]
    if mode == "CMYK":  # (1 - c)(1 - k), as in Pillow's handbook
        rgb = np.rint((255.0 - raw[:, :, :3]) * (255.0 - raw[:, :, 3:]) / 255).astype(np.uint8)
    path = tmp_path / "image.tif"
    image.save(path)
    np.testing.assert_allclose(read_image(path, 3).astype(int), rgb, atol=1 if mode == "CMYK" else 0)
    grey = read_image(path, 1)
    assert grey.shape == (height, width, 1)
    np.testing.assert_allclose(grey[:, :, 0], luma(rgb), atol=1.5 if mode == "CMYK" else 0.51)


def test_pillows_luma_is_the_formula_of_the_definition(tmp_path: Path) -> None:
    rgb = noise(64, 64, 3)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 1)[:, :, 0], integer_luma(rgb))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_grey_is_the_luma_of_the_rgb_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    image = Image.frombytes(mode, (32, 32), noise(32, 32, 4 if mode == "CMYK" else 3).tobytes())
    (tmp_path / "a.tif").write_bytes(b"x")
    monkeypatch.setattr(Image, "open", lambda *args, **options: image.copy())  # not every Pillow can write YCbCr
    rgb = read_image(tmp_path / "a.tif", 3)
    np.testing.assert_array_equal(rgb, np.asarray(image.convert("RGB")))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 1)[:, :, 0], integer_luma(rgb))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("transparency", [None, 3, bytes(range(256))])
def test_palette_equals_its_rgb_twin(tmp_path: Path, channels: int, transparency: int | bytes | None) -> None:
    colours, index = noise(256, 3), noise(9, 7, seed=1)
    image = Image.fromarray(index).convert("P")
    image.putpalette(colours.tobytes())
    if transparency is not None:
        image.info["transparency"] = transparency  # which the writer takes from here
    image.save(tmp_path / "palette.png")
    Image.fromarray(colours[index]).save(tmp_path / "rgb.png")
    with Image.open(tmp_path / "palette.png") as saved:
        assert saved.mode == "P"
        assert saved.info.get("transparency") == transparency
    np.testing.assert_array_equal(
        read_image(tmp_path / "palette.png", channels), read_image(tmp_path / "rgb.png", channels)
    )


def test_palette_with_alpha_drops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mode PA, which TIFF alone can hold: (index, alpha) pairs and a palette."""
    colours, index = noise(256, 3), noise(4, 5, seed=1)
    palette = Image.fromarray(index).convert("P")
    palette.putpalette(colours.tobytes())
    palette.save(tmp_path / "a.png")
    opened = palette.convert("PA")
    monkeypatch.setattr(Image, "open", lambda *args, **options: opened)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 3), colours[index])


def test_alpha_is_dropped_and_not_blended(tmp_path: Path) -> None:
    pixels = np.full((2, 2, 4), (200, 100, 50, 0), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 3), pixels[:, :, :3])


# ---- 16 and 32 bits ----


def test_sixteen_bits_round_to_the_nearest_level(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / "deep.png")
    exact = values.astype(np.float64) * 255 / 65535
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png", 1)[:, :, 0], np.rint(exact))
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png", 3)[:, :, 2], np.rint(exact))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(height=st.integers(2, 30), width=st.integers(2, 30), seed=st.integers(0, 1000))
def test_sixteen_bit_png_is_its_eight_bit_twin(tmp_path: Path, height: int, width: int, seed: int) -> None:
    deep = np.random.default_rng(seed).integers(0, 65536, (height, width), np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray((deep >> 8).astype(np.uint8)).save(tmp_path / "flat.png")
    preprocessing = plain(height // 2, width // 2, 1)
    got = prepare_file(tmp_path / "deep.png", preprocessing) - prepare_file(tmp_path / "flat.png", preprocessing)
    assert np.abs(got).max() <= 1.001 / 255


@pytest.mark.parametrize("suffix", ["tif", "ppm"])
def test_other_sixteen_bit_files(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 128, 129, 32896, 65535]], np.uint16)  # 128/257 rounds to 0, 129/257 to 1
    if suffix == "ppm":  # older Pillow reads these and does not write them
        (tmp_path / "a.ppm").write_bytes(b"P5 5 1 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(tmp_path / "a.tif")
    assert read_image(tmp_path / f"a.{suffix}", 1).ravel().tolist() == [0, 0, 1, 128, 255]


def test_big_endian_sixteen_bit_tiff(tmp_path: Path) -> None:
    image = Image.frombytes("I;16B", (2, 1), struct.pack(">HH", 257, 25700))
    image.save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as saved:
        assert saved.mode == "I;16B"
    assert read_image(tmp_path / "a.tif", 1).ravel().tolist() == [1, 100]


def test_thirty_two_bits(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 65535]], np.int32)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif", 3)[0].tolist() == [[0] * 3, [1] * 3, [255] * 3]


@pytest.mark.parametrize("values", [[-1, 5], [0, 65536]])
def test_thirty_two_bits_out_of_range(tmp_path: Path, values: list[int]) -> None:
    Image.fromarray(np.array([values], np.int32)).save(tmp_path / "a.tif")
    message = refused(tmp_path / "a.tif")
    assert f"{values[0]}..{values[1]}" in message
    assert "save it as 8 or 16 bits" in message


@pytest.mark.parametrize(("colour", "bands"), [(2, 3), (6, 4)])
def test_sixteen_bit_colour_keeps_its_high_byte(tmp_path: Path, colour: int, bands: int) -> None:
    pixel = struct.pack(">4H", 0x12FF, 0xAB00, 0x00FE, 0xFFFF)[: 2 * bands]
    (tmp_path / "a.png").write_bytes(png_bytes(1, 1, 16, colour, b"\0" + pixel))
    assert read_image(tmp_path / "a.png", 3).ravel().tolist() == [0x12, 0xAB, 0x00]


# ---- the rest of the definition ----


def test_exif_orientation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    Image.fromarray(noise(8, 16, 3)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg", 3).shape == (8, 16, 3)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("L", (4, 4), grey) for grey in (40, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.gif", 1), np.full((4, 4, 1), 40))


def test_odd_metadata_is_no_warning(tmp_path: Path) -> None:
    """A TIFF whose software tag points behind the end of the file: Pillow warns, the pixels are whole."""
    path = tmp_path / "a.tif"
    Image.fromarray(noise(4, 4)).save(path, software="x" * 40)
    data = bytearray(path.read_bytes())
    entry = data.index(struct.pack("<HH", 305, 2))
    data[entry + 8 : entry + 12] = struct.pack("<I", 1 << 20)
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="Truncated"), Image.open(path) as image:
        image.load()
    np.testing.assert_array_equal(read_image(path, 1)[:, :, 0], noise(4, 4))


def test_many_threads(tmp_path: Path) -> None:
    pixels = noise(32, 32, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    equal: list[bool] = []

    def work() -> None:
        equal.extend(np.array_equal(read_image(tmp_path / "a.png", 3), pixels) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert equal == [True] * 160


@pytest.mark.parametrize("module", ["preprocess", "dataset"])
def test_import_brings_neither_pillow_nor_torch(module: str) -> None:
    code = f"import sys, paraexport.images.{module}; print([m for m in ('PIL', 'torch', 'onnx') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# ---- refusals ----


def refused(path: Path, channels: int = 3) -> str:
    """The one line of the refusal, which names the file."""
    with pytest.raises(DataError) as caught:
        read_image(path, channels)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert caught.value.remedy
    return message


def test_missing(tmp_path: Path) -> None:
    assert "there is no such file; check the path" in refused(tmp_path / "none.png")


def test_directory(tmp_path: Path) -> None:
    message = refused(tmp_path)
    assert "a folder" in message
    assert "name a file in it" in message


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    message = refused(tmp_path / "a.png")
    assert "the file is empty" in message
    assert "download it again" in message


def test_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>404")
    message = refused(tmp_path / "a.jpg")
    assert "not an image" in message
    assert "b'<html>40'" in message
    assert "JPEG, PNG" in message
    assert "convert it, or leave it out" in message


def test_postscript_is_never_run(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.eps")
    assert "not an image" in refused(tmp_path / "a.eps")


def halved(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize("damage", [halved, lambda data: data[:30], lambda data: data[:100] + b"\xff" * 400])
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp", "bmp", "jp2"])
def test_truncated_or_damaged(tmp_path: Path, suffix: str, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(64, 64, 3)).save(path)
    assert read_image(path, 3).shape == (64, 64, 3)
    path.write_bytes(damage(path.read_bytes()))
    message = refused(path)
    assert "truncated or damaged" in message or "not an image" in message
    assert "copy or download it again" in message or "convert it, or leave it out" in message


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from(["png", "jpg", "gif", "tif", "bmp"]), data=st.data())
def test_any_damage_is_an_image_or_a_data_error(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = tmp_path / f"fuzzed.{suffix}"
    Image.fromarray(noise(12, 12, 3)).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with contextlib.suppress(DataError):
        pixels = read_image(path, 3)
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3


@pytest.mark.parametrize("factor", [1.5, 5])
def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """Between one and two times its limit Pillow only warns; beyond, it raises."""
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(10_000 / factor))
    message = refused(tmp_path / "a.png")
    assert f"expected at most {int(10_000 / factor)} pixels, got 10000 pixels" in message
    assert "shrink it" in message


def test_no_limit_on_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (10, 10)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(tmp_path / "a.png", 1).shape == (10, 10, 1)


@pytest.mark.parametrize(("width", "height"), [(0, 3), (3, 0)])
def test_no_pixels(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes(width, height, 8, 2, b""))
    assert "expected an image with at least one pixel" in refused(tmp_path / "a.png")


def test_float_tiff(tmp_path: Path) -> None:
    Image.fromarray(np.full((3, 3), 0.5, np.float32)).save(tmp_path / "a.tif")
    message = refused(tmp_path / "a.tif")
    assert "floating-point" in message
    assert "save it as 8 or 16 bits" in message


@pytest.mark.parametrize("channels", [2, 4])
def test_channels_that_no_file_has(tmp_path: Path, channels: int) -> None:
    message = refused(tmp_path / "a.png", channels)
    assert f"expected 1 or 3 channels, got {channels}" in message
    assert ".npy" in message


def test_unreadable_for_want_of_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"x")

    def denied(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    message = refused(tmp_path / "a.png")
    assert "Permission denied" in message
    assert "check its permissions" in message


def test_smaller_than_the_crop(tmp_path: Path) -> None:
    Image.fromarray(noise(10, 20, 3)).save(tmp_path / "a.png")
    with pytest.raises(DataError) as caught:
        prepare_file(tmp_path / "a.png", Preprocessing(image_size=(16, 16), channels=3, resize=8))
    message = str(caught.value)
    assert str(tmp_path / "a.png") in message
    assert "expected at least 16 high and 16 wide, got 8 high and 16 wide" in message
    assert "set resize to (16, 16) or more" in message


def test_extreme_shape_would_exhaust_memory() -> None:
    with pytest.raises(DataError, match=r"resized to 22400000x224 .*at most 89478485 pixels.*crop it"):
        prepare_pixels(noise(1, 100_000, 3), Preprocessing(image_size=(224, 224), channels=3, resize=224))


@pytest.mark.parametrize(
    "pixels", [noise(4, 4, 1), noise(4, 4), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_pixels_of_the_wrong_kind(pixels: NDArray[np.uint8]) -> None:
    with pytest.raises(DataError, match=r"expected uint8 \[N, H, W, 3\].*got .*; convert it"):
        prepare_pixels(pixels, plain(4, 4))


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5, 0.5), (1.0,), r"mean does not fit .*expected 1 or 3 finite numbers, got \(0.5, 0.5\).*correct mean"),
        ((0.5,), (), "std does not fit"),
        ((float("nan"),), (1.0,), "mean does not fit"),
        ((0.5,), (1.0, 0.0, 1.0), "std must be above zero"),
    ],
)
def test_mean_and_std_must_fit(mean: tuple[float, ...], std: tuple[float, ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        prepare_pixels(noise(4, 4, 3), Preprocessing(image_size=(4, 4), channels=3, resize=4, mean=mean, std=std))
