"""Makes small bundles with different answers, and puts copies of them in a place as a build does."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import paraexport
from paraexport.bundle import MANIFEST, staging

IMAGES = np.random.default_rng(0).standard_normal((2, 1, 8, 12), np.float32)


@dataclass(frozen=True, eq=False)
class Variant:
    """One of the bundles that are put in the place in turns."""

    folder: Path
    digest: str
    logits: NDArray[np.float32]


def variants(folder: Path, target: str = "onnxruntime") -> tuple[Variant, Variant]:
    """Two bundles of the same model with other weights, made below `folder`."""
    from paraexport.checkpoint.native import save_checkpoint
    from paraexport.model.spec import Preprocessing
    from tests.trace.test_trace import random_model, small_spec

    spec = small_spec()
    images = Preprocessing(image_size=spec.image_size, channels=spec.channels, resize=spec.image_size)
    both = []
    for name in ("one", "two"):
        checkpoint = folder / f"{name}.pt"
        model = random_model(spec)
        for parameter in model.parameters():
            parameter.data *= 1.0 if name == "one" else 1.25
        save_checkpoint(checkpoint, model, images, ("a", "b", "c", "d", "e"))
        bundle = paraexport.build(checkpoint, folder / f"{name}.bundle", target=target, max_batch=5)
        engine = paraexport.load(bundle.path)
        both.append(Variant(bundle.path, engine.manifest.digest, engine(IMAGES)))
    first, second = both
    assert np.abs(first.logits - second.logits).max() > 1e-3
    return first, second


def put(variant: Variant, place: Path) -> None:
    """Put a copy of the bundle at `place`, as the last stage of a build does."""
    with staging(place, force=True) as folder:
        files = sorted(variant.folder.iterdir(), key=lambda file: file.name == MANIFEST)
        for file in files:
            shutil.copyfile(file, folder / file.name)


def hidden(folder: Path) -> list[str]:
    """The leftovers of killed processes."""
    return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith(".paraexport-"))
