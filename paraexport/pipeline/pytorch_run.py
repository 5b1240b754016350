"""Runs PyTorch on the images of a build, before its weights are released."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paraexport.checks import golden
from paraexport.checks.comparison import Pair
from paraexport.checks.golden import RawImage
from paraexport.images.dataset import Samples
from paraexport.pipeline import doubtful_fields, image_evidence, images
from paraexport.pipeline.image_evidence import ImageEvidence
from paraexport.pipeline.images import Answers
from paraexport.pipeline.options import Options
from paraexport.timing.clock import Progress
from paraexport.timing.first_look import median_ms

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint


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


def run_pytorch(
    loaded: Checkpoint, samples: Samples, calibration: Samples, options: Options, progress: Progress
) -> PyTorchRun:
    """Run the module on all images.

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
    return PyTorchRun(
        answers,
        (shown, logits),
        images.raw_images(loaded, samples, answers.variety),
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
    )
