"""Makes small PNG pictures of prepared images, for reports."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

from paraexport.model.spec import Preprocessing

LONGEST_SIDE = 96
"""Pixels. Eight pictures of this size, even of noise, take less than 300 kB."""


def thumbnail(image: NDArray[np.float32], preprocessing: Preprocessing) -> str:
    """Undo the scaling of a prepared image [C, H, W], and return it as PNG in base64, made smaller if it is large."""
    from PIL import Image

    mean, std = (np.array(values, np.float32)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    pixels = np.clip(np.rint((image * std + mean) * 255), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    shown = pixels if pixels.shape[2] == 3 else pixels[:, :, 0]
    picture = Image.fromarray(shown)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    stream = io.BytesIO()
    picture.save(stream, "png", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()
