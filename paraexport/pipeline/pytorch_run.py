"""Runs PyTorch on the images of a build, before its weights are released."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paraexport.bundle.records import Manifest
from paraexport.checks import golden
from paraexport.checks.comparison import Pair
from paraexport.checks.golden import RawImage
from paraexport.findings.branches import BranchReport
from paraexport.images.dataset import Samples
from paraexport.pipeline import doubtful_fields, image_evidence, images
from paraexport.pipeline.image_evidence import ImageEvidence
from paraexport.pipeline.images import Answers
from paraexport.pipeline.options import Options
from paraexport.timing.clock import Progress
from paraexport.timing.first_look import median_ms

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint

ENOUGH_FOR_BRANCHES = 512
"""What the branches are worth is measured on so many images, evenly spaced."""


@dataclass(frozen=True, eq=False)
class PyTorchRun:
    """PyTorch's answers to the images of the checks, and what they show."""

    answers: Answers
    golden: Pair
    """The golden images [n, C, H, W] with their logits [n, classes]."""
    raw: list[RawImage]
    latency_ms: float
    """A first look at the latency of one image."""
    evidence: ImageEvidence
    doubts: tuple[str, ...]
    """Warnings about fields that do not fit the labels."""
    branches: BranchReport | None
    """What the branches are worth; None for values, and for a module that was not recognised as a Para-Former."""
    first: dict[int, NDArray[np.float32]]
    """The logits of all images with only the first branches, by their number, [N, classes]."""
    golden_first: dict[int, NDArray[np.float32]]
    """The same for the golden images, then for the raw ones, [n, classes]."""

    def warnings(self, manifest: Manifest) -> tuple[str, ...]:
        """List reasons to trust the checks less, and fields that do not fit the labels."""
        return (*image_evidence.warnings(self.evidence, self.answers.logits, manifest), *self.doubts)


def run_pytorch(  # noqa: PLR0917
    loaded: Checkpoint,
    samples: Samples,
    calibration: Samples,
    options: Options,
    progress: Progress,
    fewer: Sequence[int] = (),
) -> PyTorchRun:
    """Run the module on all images.

    Args:
        fewer: the numbers of first branches that the bundle will also run with.

    Raises:
        DataError: int8 cannot be calibrated on these images.
    """
    started_s = time.perf_counter()
    answers = images.pytorch_answers(loaded, samples, options.max_batch)
    pytorch_s = time.perf_counter() - started_s
    std = loaded.preprocessing.std
    evidence = image_evidence.weigh(samples, answers.variety, calibration, options.images, std)
    shown, logits = images.golden_pair(loaded, samples, answers.variety)
    model = golden.answers(loaded.original)
    raw = images.raw_images(loaded, samples, answers.variety)
    branches, first = branch_answers(loaded, samples, options.max_batch, fewer)
    everything = np.concatenate([shown, *(image.prepared[None] for image in raw)])
    return PyTorchRun(
        answers,
        (shown, logits),
        raw,
        median_ms(lambda: model(shown[:1])),
        evidence,
        doubtful_fields.doubts(
            loaded,
            samples,
            answers.logits,
            options.reading,
            size=options.max_batch,
            pytorch_s=pytorch_s,
            progress=progress,
        ),
        branches,
        first,
        first_logits(loaded, [everything], fewer) if fewer else {},
    )


def branch_answers(
    loaded: Checkpoint, samples: Samples, size: int, fewer: Sequence[int]
) -> tuple[BranchReport | None, dict[int, NDArray[np.float32]]]:
    """Measure what the branches are worth. Without `fewer`, some of the images are enough.

    Args:
        fewer: the numbers of first branches whose logits are needed, for all images.
    """
    from paraexport.model import branch_worth
    from paraexport.model.reference import ParaFormer

    if not isinstance(loaded.module, ParaFormer):
        return None, {}
    count = len(samples) if fewer else min(len(samples), ENOUGH_FOR_BRANCHES)
    labels = None if samples.labels is None else samples.labels[samples.spread(count)]
    worth = branch_worth.measure(loaded.module, samples.batches(size, count), count, labels, fewer)
    return None if loaded.scores == "regression" else worth.report, worth.first


def first_logits(
    loaded: Checkpoint, batches: Iterable[NDArray[np.float32]], wanted: Sequence[int]
) -> dict[int, NDArray[np.float32]]:
    """PyTorch's logits of the first branches, by their number. The checkpoint must hold a `ParaFormer`."""
    from paraexport.model import branch_worth
    from paraexport.model.reference import ParaFormer

    assert isinstance(loaded.module, ParaFormer)
    return branch_worth.first_logits(loaded.module, batches, wanted)
