"""The example images, from scikit-learn's digits: `python -m calib.make_digits` writes everything beside this file.

Images are uint8 [N, 32, 32, 1], indices are rows of `sklearn.datasets.load_digits`. `models.train` takes its training
images from the same functions, so that the split is defined once.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

HERE = Path(__file__).parent
SIZE = 32
TEST_FRACTION = 0.2
CALIBRATION_IMAGES = 64
NOISE_SIGMA = 0.7
"""Of the pixel noise, on the 0..1 scale; so strong that a good model still errs (`models/noisy_digits.md`)."""
# One seed a purpose, so that changing one leaves the others' draws alone. RandomState, because its stream is frozen.
SPLIT_SEED, CALIBRATION_SEED, TEST_NOISE_SEED, CALIBRATION_NOISE_SEED = 0, 1, 2, 3


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All 1797 digits, 8×8 values 0..16 scaled to 0..255, then bilinearly to 32×32; and their labels [1797]."""
    source = load_digits()
    small = np.round(source.images * (255 / 16)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for image in small]
    return np.stack(large)[..., None], source.target.astype(np.int64)


def split(labels: NDArray[np.int64], seed: int = SPLIT_SEED) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorted indices into `labels`, to keep and to hold out; `TEST_FRACTION` of every class is held out."""
    stream = np.random.RandomState(seed)
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = stream.permutation(np.flatnonzero(labels == label))
        held_out[members[: round(TEST_FRACTION * len(members))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def calibration(train: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sorted indices of `CALIBRATION_IMAGES` training images."""
    return np.sort(np.random.RandomState(CALIBRATION_SEED).permutation(train)[:CALIBRATION_IMAGES])


def add_noise(images: NDArray[np.uint8], sigma: float, stream: np.random.RandomState) -> NDArray[np.uint8]:
    """Independent Gaussian noise on every pixel, rounded and clipped to 0..255; `sigma` is on the 0..1 scale."""
    noisy = images + 255 * sigma * stream.standard_normal(images.shape)
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)


def write(folder: Path) -> None:
    """Everything that `README.md` lists, the same bytes each time with the same version of Pillow."""
    images, labels = digits()
    train, test = split(labels)
    chosen = calibration(train)
    for index in test:
        write_png(folder / "digits" / "test" / str(labels[index]) / f"{index}.png", images[index])
    for index in chosen:
        write_png(folder / "digits" / "calibration" / f"{index}.png", images[index])
    noisy_test = add_noise(images[test], NOISE_SIGMA, np.random.RandomState(TEST_NOISE_SEED))
    noisy_calibration = add_noise(images[chosen], NOISE_SIGMA, np.random.RandomState(CALIBRATION_NOISE_SEED))
    np.savez(folder / "noisy_digits.npz", images=noisy_test, labels=labels[test])  # NumPy dates its members 1980
    np.save(folder / "noisy_digits_calibration.npy", noisy_calibration)


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """[H, W, 1] as an 8-bit grey PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., 0]).save(path, compress_level=9)


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=HERE)
def main(folder: Path) -> None:
    """Write the example images into FOLDER (by default the one that this script is in)."""
    write(folder)


if __name__ == "__main__":
    main()
