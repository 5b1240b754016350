"""Compare the preprocessing of images on several versions of Pillow, and with the reference in `resampling`.

    python -m tests.images.pillow_versions --versions 10.3.0 --versions 12.0.0 --versions 13.0.0

Each version is installed into a folder of its own, which is removed afterwards. Sizes, filters and pixels are drawn
from one seed. A line is printed for each version: the images that differ from the reference, and a digest of all.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import get_args

import click
import numpy as np

from paraexport.images.preprocess import prepare_pixels
from paraexport.model.spec import Interpolation, Preprocessing
from tests.images.resampling import resized

FILTERS: tuple[Interpolation, ...] = get_args(Interpolation)
WORKER = "from tests.images.pillow_versions import compare; import sys; compare(int(sys.argv[1]))"
LARGEST = 160


def compare(count: int) -> None:
    """Prepare `count` drawn images with each filter, and print the result for the Pillow that is installed."""
    import PIL

    random, differing, digest = np.random.default_rng(0), 0, hashlib.sha256()
    for index in range(count):
        height, width, new_height, new_width = (int(size) for size in random.integers(1, LARGEST, 4))
        channels = 1 + 2 * (index % 2)
        pixels = random.integers(0, 256, (height, width, channels), np.uint8)
        for interpolation in FILTERS:
            preprocessing = Preprocessing(
                image_size=(new_height, new_width), channels=channels, resize=(new_height, new_width),
                interpolation=interpolation, mean=(0.0,), std=(1.0,),
            )  # fmt: skip
            prepared = prepare_pixels(pixels, preprocessing)
            digest.update(prepared.tobytes())
            expected = resized(pixels, new_height, new_width, interpolation)
            levels = np.rint(prepared.transpose(1, 2, 0) * 255).astype(np.uint8)
            differing += int((levels != expected).any())
    images, name = count * len(FILTERS), PIL.__version__
    print(f"Pillow {name}: {differing} of {images} images differ; sha256 {digest.hexdigest()[:16]}", flush=True)


@click.command()
@click.option("--versions", multiple=True, default=("10.3.0", "12.0.0", "13.0.0"), show_default=True)
@click.option("--count", default=1000, show_default=True, help="Drawn sizes; each is prepared with four filters.")
def main(versions: tuple[str, ...], count: int) -> None:
    """Compare preprocessing on several versions of Pillow with an independent implementation."""
    for version in versions:
        with tempfile.TemporaryDirectory() as folder:
            install = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "-q",
                "--no-deps",
                "--target",
                folder,
                f"pillow=={version}",
            ]
            subprocess.run(install, check=True)
            search = os.pathsep.join([folder, str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
            environment = {**os.environ, "PYTHONPATH": search}
            subprocess.run([sys.executable, "-c", WORKER, str(count)], check=True, env=environment)


if __name__ == "__main__":
    main()
