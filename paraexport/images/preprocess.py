"""Turns an image file into float32 [N, C, H, W]. Calibration, Python and C++ share this definition:

1. Decode the first frame. As in torchvision, neither the EXIF orientation nor a colour profile is applied.
2. Convert the channels. A palette becomes RGB. CMYK, YCbCr and 1-bit images become RGB or grey as in Pillow.
   Transparency is dropped, never blended: the colour under a transparent pixel counts. Grey of 16 or 32 bits becomes 8
   bits by round(v·255/65535) = (v + 128) // 257. Values outside 0..65535, and floating point, are refused. Colour of 16
   bits keeps its high byte, as in Pillow. RGB to one channel is the luma of ITU-R 601, (19595·R + 38470·G + 7471·B +
   32768) >> 16. Grey to three channels is three copies.
3. Resize uint8 -> uint8 with Pillow's filter of the same name, which is antialiased except for `nearest`. The new size
   is (height, width), or the shorter side becomes n and the longer one ⌊n·longer/shorter⌋. The width comes first, then
   the height; in between, values are rounded to uint8. A side that already has its size stays as it is.
4. Crop the centre: top = round((H − h)/2), and left likewise. A half goes to the even number (so 1 -> 0, 3 -> 2).
5. Compute (pixel/255 − mean)/std. Each of the three operations rounds to float32.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paraexport.errors import DataError, SpecError, on_one_line
from paraexport.model.spec import Preprocessing
from paraexport.system.files import open_regular
from paraexport.system.plain_paths import address_in

if TYPE_CHECKING:
    from PIL import Image

# A fixed list, because Pillow would open an EPS file with Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "JPEG2000")
_FILTERS_LOCK = threading.Lock()  # warning filters belong to the whole process
_LARGE_PIXELS = 2**24
_LARGE_LOCK = threading.Lock()
"""Held while an image with more than `_LARGE_PIXELS` is decoded. The largest allowed image needs 1 GB."""
_PIXELS_PER_BYTE = 10_000
"""A large image with more pixels per byte is one colour or a bomb. PNG reaches 8256, GIF and JPEG less than 1500."""


def read_image(path: Path, channels: int) -> NDArray[np.uint8]:
    """The first frame as [H, W, channels], with 1 (grey) or 3 (RGB) channels.

    Raises:
        DataError: the file is not an image, damaged or too large, or `channels` is not 1 or 3.
    """
    if channels not in (1, 3):
        raise DataError(
            f"image files cannot have {channels} channels",
            where=path,
            expected="1 or 3 channels",
            got=channels,
            remedy=f"give uint8 [N, H, W, {channels}] or float32 [N, {channels}, h, w] in .npy",
        )
    path = Path(path)
    head = _first_bytes(path)
    try:
        with _open(path, head) as image:
            large = image.width * image.height > _LARGE_PIXELS
            if large:
                _refuse_bomb(image.width * image.height, path)
            with _LARGE_LOCK if large else nullcontext():
                return _decode(image, channels, path)
    except DataError:
        raise
    except Exception as error:  # decoders fail with OSError, SyntaxError, ValueError, EOFError, struct.error, …
        raise DataError(
            "the image is truncated or damaged",
            where=path,
            got=on_one_line(error) or type(error).__name__,
            remedy="copy or download it again",
        ) from error


def decode_image(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    """Pillow's image -> [H, W, channels], by the same steps as `read_image`. The image stays as it is.

    Raises:
        DataError: the image is damaged, or has a mode that cannot be converted.
    """
    try:
        return _decode(image.copy(), channels, "image")
    except DataError:
        raise
    except Exception as error:  # an image that is still in its file is decoded here
        raise DataError("the image is truncated or damaged", where="image", got=on_one_line(error)) from error


def prepare_pixels(
    pixels: NDArray[np.uint8], preprocessing: Preprocessing, where: object = "pixels"
) -> NDArray[np.float32]:
    """[H, W, C] -> [C, h, w]. `where` names the image in an error.

    Raises:
        DataError: wrong dtype or shape, or too small for the crop after the resize.
        SpecError: `mean` or `std` do not fit the channels.
    """
    return prepare_batch(pixels[None], preprocessing, where)[0]


def prepare_batch(
    pixels: NDArray[np.uint8], preprocessing: Preprocessing, where: object = "pixels"
) -> NDArray[np.float32]:
    """[N, H, W, C] -> [N, C, h, w] for any number of channels C, with the errors of `prepare_pixels`."""
    channels = preprocessing.channels
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != channels or 0 in pixels.shape[1:]:
        raise DataError(
            "the pixels do not fit the model",
            where=where,
            expected=f"uint8 [N, H, W, {channels}] with at least one pixel",
            got=f"{pixels.dtype} {list(pixels.shape)}",
            remedy="convert it, or correct the channels",
        )
    mean, std = _per_channel("mean", preprocessing), _per_channel("std", preprocessing)
    cropped = _crop(_resize(pixels, preprocessing, where), preprocessing.image_size, where)
    scaled = np.ascontiguousarray(cropped.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
    scaled -= mean
    scaled /= std
    return scaled


def prepare_file(path: Path, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Image file -> [C, h, w], with the errors of `read_image` and `prepare_pixels`."""
    return prepare_pixels(read_image(path, preprocessing.channels), preprocessing, path)


def _first_bytes(path: Path) -> bytes:
    """The first 8 bytes. Raises a `DataError` if there is no such file, or if it is empty."""
    try:
        if path.is_dir():
            raise DataError("a folder, expected one image file", where=path, remedy="name a file in it")
        if not path.exists():
            address = address_in(path)
            remedy = "download it first" if address else "check the path"
            raise DataError("there is no such file", where=address or path, remedy=remedy)
        with open_regular(path) as file:
            head = file.read(8)
    except OSError as error:
        raise DataError("cannot be read", where=path, got=error.strerror, remedy="check its permissions") from error
    if not head:
        raise DataError("the file is empty", where=path, got="0 bytes", remedy="copy or download it again")
    return head


def _open(path: Path, head: bytes) -> Image.Image:
    """Open the image and read its header only. Pillow's warning about decompression bombs is an error here."""
    from PIL import Image, UnidentifiedImageError

    try:
        with _quiet():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(path, formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        pixels = re.search(r"\d+", str(error))
        raise DataError(
            "the image is too large to open safely",
            where=path,
            expected=f"at most {Image.MAX_IMAGE_PIXELS} pixels",
            got=f"{pixels[0]} pixels" if pixels else error,
            remedy="shrink it",
        ) from error
    except UnidentifiedImageError as error:
        raise DataError(
            "not an image",
            where=path,
            expected=f"an image with at least one pixel, in one of the formats {', '.join(FORMATS)}",
            got=f"a file that starts with {head!r}",
            remedy="convert it, or leave it out",
        ) from error


def _refuse_bomb(pixels: int, path: Path) -> None:
    size = path.stat().st_size
    if pixels > _PIXELS_PER_BYTE * size:
        raise DataError(
            "the image is far larger than its file",
            where=path,
            expected=f"at most {_PIXELS_PER_BYTE} pixels for each byte",
            got=f"{pixels} pixels in {size} bytes",
            remedy="shrink it, or leave it out",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings about odd metadata, which does not affect the pixels. Only one thread at a time can be inside."""
    with _FILTERS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _decode(image: Image.Image, channels: int, path: object) -> NDArray[np.uint8]:
    """[H, W, channels]: steps 1 and 2 of the definition."""
    with _quiet() if image.format == "TIFF" else nullcontext():  # TIFF reads metadata again while it decodes
        image.load()
    image.info.pop("transparency", None)  # otherwise Pillow warns for some palettes that it drops it
    if image.mode == "F":
        raise DataError(
            "floating-point pixels have no known range",
            where=path,
            expected="integer pixels",
            got=f"mode {image.mode}",
            remedy="save it as 8 or 16 bits, or preprocessed as float32 [N, C, H, W] in .npy",
        )
    if image.mode.startswith("I"):
        grey = _to_eight_bits(np.asarray(image), path)
    elif image.mode in ("1", "L", "LA"):
        grey = np.asarray(image.convert("L"))
    elif channels == 1:
        grey = np.asarray(image.convert("RGB").convert("L"))
    else:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return np.repeat(grey[:, :, None], channels, axis=2)


def _to_eight_bits(values: NDArray[np.integer], path: object) -> NDArray[np.uint8]:
    """16 bits -> 8 bits. Pillow's own conversion clips at 255 in some versions, and truncates in others."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise DataError(
            "grey values outside the range of 16 bits",
            where=path,
            expected="0..65535",
            got=f"{low}..{high}",
            remedy="save it as 8 or 16 bits",
        )
    return ((values.astype(np.int32) + 128) // 257).astype(np.uint8)


def _per_channel(name: str, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """`mean` or `std` as [C or 1, 1, 1]."""
    numbers = preprocessing.mean if name == "mean" else preprocessing.std
    values = np.asarray(numbers, np.float32)
    if len(numbers) not in (1, preprocessing.channels) or not np.isfinite(values).all():
        expected = f"1 or {preprocessing.channels} finite numbers"
        raise SpecError(f"{name} does not fit the channels", expected=expected, got=numbers, remedy=f"correct {name}")
    if name == "std" and (values <= 0).any():
        raise SpecError("std must be above zero", expected="numbers above 0", got=numbers, remedy="correct std")
    return values.reshape(-1, 1, 1)


def _resize(pixels: NDArray[np.uint8], preprocessing: Preprocessing, where: object) -> NDArray[np.uint8]:
    """[N, H, W, C] -> [N, h, w, C]: step 3 of the definition."""
    count, height, width, channels = pixels.shape
    size = preprocessing.resize
    if isinstance(size, int):
        shorter, longer = min(height, width), max(height, width)
        longer_size = size * longer // shorter
        size = (longer_size, size) if width <= height else (size, longer_size)
    if tuple(size) == (height, width):
        return pixels
    from PIL import Image

    largest = max(height, size[0]) * size[1]
    if Image.MAX_IMAGE_PIXELS is not None and largest > Image.MAX_IMAGE_PIXELS:
        raise DataError(
            f"{width}x{height} pixels would be resized to {size[1]}x{max(height, size[0])} and {size[1]}x{size[0]}",
            where=where,
            expected=f"at most {Image.MAX_IMAGE_PIXELS} pixels",
            remedy="crop it to a less extreme shape",
        )
    resampling = Image.Resampling[preprocessing.interpolation.upper()]

    def resized(band: NDArray[np.uint8]) -> NDArray[np.uint8]:
        # Two calls fix the order. In one call, Pillow up to 12 starts with the width, and Pillow 13 with the height for
        # some shapes, which changes pixels.
        image = Image.fromarray(np.ascontiguousarray(band)).resize((size[1], height), resampling)
        return np.asarray(image.resize((size[1], size[0]), resampling))

    result = np.empty((count, *size, channels), np.uint8)
    for source, target in zip(pixels, result, strict=True):
        if channels == 3:
            target[:] = resized(source)
        else:  # band by band, because Pillow would treat the last of four bands as alpha
            for band in range(channels):
                target[:, :, band] = resized(source[:, :, band])
    return result


def _crop(pixels: NDArray[np.uint8], size: tuple[int, int], where: object) -> NDArray[np.uint8]:
    """[N, H, W, C] -> [N, h, w, C]: step 4 of the definition."""
    height, width = size
    spare = pixels.shape[1] - height, pixels.shape[2] - width
    if min(spare) < 0:
        raise DataError(
            "the image is smaller than the crop after the resize",
            where=where,
            expected=f"at least {height} high and {width} wide",
            got=f"{pixels.shape[1]} high and {pixels.shape[2]} wide",
            remedy=f"set resize to ({height}, {width}) or more",
        )
    top, left = round(spare[0] / 2), round(spare[1] / 2)
    return pixels[:, top : top + height, left : left + width]
