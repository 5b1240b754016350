"""Draws digits in the fonts of matplotlib, in the manner of scikit-learn's digits: 8 x 8 grey values, then 32 x 32.

Each image has its own font, rotation, shear, width and thickness of the stroke. Images are uint8 [N, 32, 32, 1].
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from calib.make_digits import SIZE

FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSerif",
    "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic",
    "STIXGeneralBolIta", "cmb10", "cmmi10", "cmr10", "cmss10", "cmtt10",
)  # fmt: skip
POINT_SIZE, CANVAS = 64, 128
THICKER = 4
"""Pixels at most that the stroke gains on each side."""
ROTATION, SHEAR = math.radians(15), 0.3
WIDTHS = (0.45, 0.9)
"""Of a digit, as a fraction of its height."""
SMALL = 8


def fonts() -> list[ImageFont.FreeTypeFont]:
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    return [ImageFont.truetype(folder / f"{name}.ttf", POINT_SIZE) for name in FONTS]


def rendered_digits(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """uint8 [count, 32, 32, 1] and their labels, the same each time with the same versions of matplotlib and Pillow."""
    stream = np.random.RandomState(seed)
    choices = fonts()
    labels = stream.randint(0, 10, count)
    images = [draw(str(label), choices[stream.randint(len(choices))], stream) for label in labels]
    return np.stack(images)[..., None], labels.astype(np.int64)


def draw(digit: str, font: ImageFont.FreeTypeFont, stream: np.random.RandomState) -> NDArray[np.uint8]:
    canvas = Image.new("L", (CANVAS, CANVAS))
    thicker = int(stream.randint(THICKER + 1))
    ImageDraw.Draw(canvas).text((CANVAS / 2, CANVAS / 2), digit, 255, font, anchor="mm", stroke_width=thicker)
    turned = canvas.transform(canvas.size, Image.Transform.AFFINE, random_matrix(stream), Image.Resampling.BILINEAR)
    box = turned.getbbox()
    assert box is not None
    width = round(SIZE * stream.uniform(*WIDTHS))
    upright = turned.crop(box).resize((width, SIZE), Image.Resampling.BILINEAR)
    full = Image.new("L", (SIZE, SIZE))
    full.paste(upright, ((SIZE - width) // 2, 0))
    small = full.resize((SMALL, SMALL), Image.Resampling.BOX)
    levels = np.round(np.asarray(small) * (16 / 255))  # scikit-learn's digits have values from 0 to 16
    source = np.round(levels * (255 / 16)).astype(np.uint8)
    return np.asarray(Image.fromarray(source).resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def random_matrix(stream: np.random.RandomState) -> tuple[float, float, float, float, float, float]:
    """Rotation and shear around the middle of the canvas, as Pillow wants it: from new to old places."""
    angle, shear = stream.uniform(-ROTATION, ROTATION), stream.uniform(-SHEAR, SHEAR)
    cosine, sine = math.cos(angle), math.sin(angle)
    a, b, d, e = cosine, shear * cosine - sine, sine, shear * sine + cosine
    middle = CANVAS / 2
    return a, b, middle - a * middle - b * middle, d, e, middle - d * middle - e * middle
