"""Checks whether the images of a build are useful evidence: refuses useless ones, and warns about weak ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paraexport.bundle.records import Manifest
from paraexport.errors import DataError
from paraexport.findings.graphs import Lowering
from paraexport.images import class_order
from paraexport.images.dataset import Samples
from paraexport.images.variety import Variety, measure_variety, weak_classes, weaknesses
from paraexport.images.wording import counted
from paraexport.model.scores import answers, class_names, classes_of, recorded
from paraexport.model.spec import Scores
from paraexport.pipeline.candidates import in_batches
from paraexport.pipeline.images import ENOUGH, ENOUGH_TO_HOLD_OUT
from paraexport.pipeline.options import ImagePaths

ENOUGH_ANSWERS = 8
"""With fewer images, there is no warning about answers that are all the same."""
MOST_NAMED = 4
REPEATED = 16
"""If each image occurs this often on average, the set is a mistake, not a sample of the images in use."""


@dataclass(frozen=True, eq=False)
class ImageEvidence:
    """The images of a build, and how different they are."""

    samples: Samples
    """The images of the checks."""
    variety: Variety
    """How different the images of the checks are."""
    calibrating: Variety | None
    """How different the calibration images are; None in fp32."""
    unseen: int | None
    """The number of different check images that int8 was not calibrated on; None in other precisions."""
    separate: bool
    """Whether the calibration images were given separately."""

    @property
    def text(self) -> str:
        """Describe the images of the checks, for the manifest."""
        if self.unseen is None:
            return self.samples.origin
        others = "all also used for calibration" if not self.unseen else f"{self.unseen} not used for calibration"
        return f"{self.samples.origin}, {others}"

    @property
    def distinct(self) -> int:
        """The number of different calibration images."""
        return self.calibrating.distinct if self.calibrating else 0


def without_calibration(samples: Samples, variety: Variety) -> ImageEvidence:
    """The evidence of checks without calibration."""
    return ImageEvidence(samples, variety, None, None, separate=False)


def weigh(
    samples: Samples, variety: Variety, calibration: Samples, paths: ImagePaths, std: Sequence[float]
) -> ImageEvidence:
    """Judge the images before the build uses them.

    Args:
        variety: how different the `samples` are.
        std: the standard deviations of preprocessing.

    Raises:
        DataError: int8 cannot be calibrated on these images: nearly all are copies, or each has one colour.
    """
    if paths.precision == "fp32":
        return without_calibration(samples, variety)
    separate = paths.separate
    calibrating = variety if calibration is samples else measure_variety(in_batches(calibration)())
    if paths.precision != "int8":
        return ImageEvidence(samples, variety, calibrating, None, separate=separate)
    repeated = calibrating.images > 1 and REPEATED * calibrating.distinct <= calibrating.images
    if repeated or calibrating.distinct == 1 < calibrating.images or calibrating.plain == calibrating.images:
        raise DataError(
            "int8 cannot be calibrated on these images",
            where=paths.calib or paths.data,
            expected="different images, like those in use",
            got=next(itertools.chain(() if separate else weaknesses(variety, std), weaknesses(calibrating, std))),
            remedy=f"give --calib: {ENOUGH} different images are enough",
        )
    unseen = len({*variety.digests} - {*calibrating.digests})
    return ImageEvidence(samples, variety, calibrating, unseen, separate=separate)


def warnings(evidence: ImageEvidence, outputs: NDArray[np.float32], manifest: Manifest) -> tuple[str, ...]:
    """List problems with the images and reasons to trust the checks less, one sentence each.

    `outputs` are PyTorch's outputs for the images of the checks, [N, outputs].
    """
    scores = recorded(manifest.scores, len(manifest.labels))
    names = class_names(manifest.labels, scores)
    samples, std = evidence.samples, manifest.preprocessing.std
    lines = [*samples.notes]
    if not samples.made_up:
        lines += [
            f"{line}: the checks prove little; give more different images" for line in weaknesses(evidence.variety, std)
        ]
        lines += same_answers(outputs, scores, names)
    if evidence.unseen == 0:
        lines.append(
            "the checks ran only on images that int8 was calibrated on; give other images as --data, "
            f"or at least {ENOUGH_TO_HOLD_OUT} different ones as --calib"
        )
    if evidence.calibrating is not None and evidence.separate:
        lines += [f"calibration images: {line}; ranges may be wrong" for line in weaknesses(evidence.calibrating, std)]
    lines += constant_ranges(manifest.lowering)
    if samples.labels is not None and scores.kind == "values":
        lines.append("the outputs are values, so the labels of the images were not used")
    elif samples.labels is not None:
        lines += weak_classes(samples.labels, names)
        lines += class_order.doubts(samples.labels, classes_of(outputs, scores), names, samples.folders)
    return tuple(dict.fromkeys(lines))


def same_answers(outputs: NDArray[np.float32], scores: Scores, names: Sequence[str]) -> list[str]:
    """Warn if PyTorch gives the same answer for every image: then even a wrong engine may agree with it."""
    if scores.kind == "values" or len(outputs) < ENOUGH_ANSWERS or len(names) < 2:
        return []
    if len(np.unique(answers(outputs, scores), axis=0)) > 1:
        return []
    answer = int(classes_of(outputs, scores)[0])
    label = f": {names[answer] or f'class {answer}'}" if scores.kind != "independent" or outputs.shape[1] == 1 else ""
    images = counted(len(outputs), "image")
    return [f"PyTorch gives the same answer for all {images}{label}; even a wrong model may agree with it"]


def constant_ranges(lowering: Lowering | None) -> tuple[str, ...]:
    """Warn about values that never varied on the calibration images."""
    if lowering is None or not lowering.constant:
        return ()
    shown = ", ".join(lowering.constant[:MOST_NAMED])
    more = f" and {len(lowering.constant) - MOST_NAMED} more" if len(lowering.constant) > MOST_NAMED else ""
    return (
        f"{shown}{more} had the same value for all calibration images, so int8 has no range for it; give more varied "
        "--calib images, unless this part of the model does nothing",
    )
