"""What checks start from: the checkpoint, the images, and PyTorch's answers to them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paraexport.dataset import Samples, made_up_samples, open_samples
from paraexport.errors import MissingError
from paraexport.options import Options
from paraexport.spec import Assumption, Preprocessing
from paraexport.validate import LIMITS, Logits, Pair

LIBRARIES = ("torch", "onnx", "onnx_ir", "onnxscript")

if TYPE_CHECKING:
    from paraexport.checkpoint import Checkpoint


def require_libraries() -> None:
    """Raise a `MissingError` that names every library which a build needs and which is not installed."""
    if missing := [name for name in LIBRARIES if importlib.util.find_spec(name) is None]:
        raise MissingError(
            f"a build needs {', '.join(missing)}, not installed here", remedy="pip install 'paraexport[build]'"
        )


def load(source: Path, options: Options) -> Checkpoint:
    """The checkpoint at `source`, read as the options say."""
    from paraexport.checkpoint import load_checkpoint

    return load_checkpoint(source, overrides=options.spec, module=options.module, branches=options.branches)


def open_images(options: Options, preprocessing: Preprocessing, labels: Sequence[str]) -> Samples:
    """The images of `data`, else those of `calib`, else made-up ones."""
    path = options.data or options.calib
    if path is None:
        return made_up_samples(preprocessing)
    return open_samples(path, preprocessing, labels, need_labels=options.data is not None)


def unused(options: Options) -> tuple[Assumption, ...]:
    """Said aloud where an option has no effect."""
    if options.calib is None or options.data is None:
        return ()
    reason = f"{options.precision} needs no calibration, and the checks run on the images of --data"
    return (Assumption("calib", "unused", reason),)


def with_logits(samples: Samples, pytorch: Logits, size: int) -> Iterator[Pair]:
    """Every image of `samples`, `size` at a time, with PyTorch's answers."""
    for images in samples.batches(size):
        yield images, pytorch(images)


def blame(loaded: Checkpoint, model: Path, images: NDArray[np.float32], traced: Path | None = None) -> str:
    """One clause on where the graph at `model` first differs from PyTorch; `traced` is what it was rewritten from."""
    from paraexport.golden import answers
    from paraexport.locate import first_difference, relative_difference

    limit = LIMITS["fp32"]["parity"].value
    original = answers(loaded.original)
    logits = original(images)
    if not relative_difference(logits, original(images)) <= limit:
        return "PyTorch itself does not answer the same twice: is there randomness in the module?"
    if not relative_difference(logits, answers(loaded.module)(images)) <= limit:
        return "the module answers otherwise than the Para-Former of its weights: it decides on values, or clips them"
    if traced and (found := first_difference(loaded.module, traced, images, limit)):
        return str(found)
    if found := first_difference(loaded.module, model, images, limit):
        rewriting = "; the traced graph agrees, so the rewriting is at fault: build with --layout branches"
        return f"{found}{rewriting if traced else ''}"
    return "no named value differs on the golden images: the fault is at the output, in the layout, or in the runtime"
