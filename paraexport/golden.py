"""The golden file: real inputs and PyTorch's logits for them, which every runtime replays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from paraexport.errors import BundleError

if TYPE_CHECKING:
    from torch import nn

FILE = "golden.safetensors"
IMAGES, LOGITS = "images", "logits"

Array = NDArray[np.float32]


def answers(module: nn.Module) -> Callable[[Array], Array]:
    """`module` as a function of arrays: float32 [N, C, H, W] -> float32 [N, classes]."""
    import torch

    def run(images: Array) -> Array:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(images)).numpy(), np.float32)

    return run


def write(folder: Path, images: Array, logits: Array, origin: str) -> None:
    """Write images float32 [N, C, H, W] and PyTorch's logits float32 [N, classes] into the bundle at `folder`."""
    save_file({IMAGES: images, LOGITS: logits}, folder / FILE, {"origin": origin})


def read(folder: Path) -> tuple[Array, Array]:
    """(images, logits) of the bundle at `folder`.

    Raises:
        BundleError: there is no such file, or it holds something else.
    """
    try:
        tensors = load_file(folder / FILE)
        images, logits = tensors[IMAGES], tensors[LOGITS]
    except (OSError, safetensors.SafetensorError, KeyError) as error:
        raise BundleError(
            "the golden file cannot be read", where=folder / FILE, expected=f"{IMAGES} and {LOGITS}", got=error
        ) from error
    if len(images) != len(logits) or images.dtype != np.float32 or logits.dtype != np.float32:
        got = f"{images.dtype} {list(images.shape)} and {logits.dtype} {list(logits.shape)}"
        raise BundleError(
            "the golden file is malformed", where=folder / FILE, expected="float32, one row of logits an image", got=got
        )
    return images, logits
