"""Arrays of images in `.npy` files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paraexport.arrays import open_array
from paraexport.spec import Preprocessing
from tests.faults.reader import Reader

IMAGES = Preprocessing(image_size=(8, 8), channels=3, resize=(8, 8))


def npy_files(folder: Path) -> Sequence[bytes]:
    pick = np.random.default_rng(0)
    np.save(folder / "raw.npy", pick.integers(0, 256, (5, 8, 8, 3), np.uint8))
    np.save(folder / "prepared.npy", pick.random((5, 3, 8, 8), np.float32))
    return [file.read_bytes() for file in sorted(folder.iterdir())]


def read(file: Path) -> None:
    source, _ = open_array(file, IMAGES, 5, need_labels=False)
    source.read(np.arange(len(source)))


READERS = (Reader("npy", npy_files, read, ".npy"),)
