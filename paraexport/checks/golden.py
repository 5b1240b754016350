"""Reads and writes the golden file: real images, and PyTorch's logits for them. Every runtime replays it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save_file

from paraexport.bundle import REBUILD
from paraexport.checks.comparison import Pair
from paraexport.errors import BundleError, on_one_line
from paraexport.targets.folder import Folder

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


def read(folder: Folder) -> Pair:
    """(images [n, C, H, W], logits [n, classes]) of a bundle. n is at least 1.

    Raises:
        BundleError: the file is missing, or its content is wrong.
    """
    where, content = folder.path / FILE, folder.read(FILE)
    try:
        tensors = load(content)
        images, logits = tensors[IMAGES], tensors[LOGITS]
    except Exception as error:  # of safetensors, KeyError, and NumPy's errors for types that it lacks
        raise BundleError(
            "the golden file cannot be read",
            where=where,
            expected=f"{IMAGES} and {LOGITS}",
            got=on_one_line(error) or type(error).__name__,
            remedy=REBUILD,
        ) from error
    kinds = (images.dtype.name, images.ndim, logits.dtype.name, logits.ndim)
    if kinds != ("float32", 4, "float32", 2) or not len(images) == len(logits) > 0:
        got = f"{images.dtype} {list(images.shape)} and {logits.dtype} {list(logits.shape)}"
        expected = "float32 images [n, C, H, W] and logits [n, classes], n at least 1"
        raise BundleError("the golden file is malformed", where=where, expected=expected, got=got, remedy=REBUILD)
    if not (np.isfinite(images).all() and np.isfinite(logits).all()):
        raise BundleError("the golden file contains numbers that are not finite", where=where, remedy=REBUILD)
    return images, logits
