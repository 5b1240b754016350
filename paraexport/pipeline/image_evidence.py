"""Judges whether the images of a build can prove anything: refuses some, and warns about others."""

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
from paraexport.model.scores import answers, class_names, classes_of, recorded
from paraexport.model.spec import Scores
from paraexport.pipeline.candidates import in_batches
from paraexport.pipeline.images import ENOUGH, ENOUGH_TO_HOLD_OUT, counted
from paraexport.pipeline.options import ImagePaths

ENOUGH_ANSWERS = 8
"""With fewer images, nothing is said about answers that are all the same."""
MOST_NAMED = 4
REPEATED = 16
"""A set with so many times more images than different ones is a mistake, not a sample of what the model will see."""


@dataclass(frozen=True, eq=False)
class ImageEvidence:
    """The images of a build, as evidence."""

    samples: Samples
    """Those of the checks."""
    variety: Variety
    """Of the same."""
    calibrating: Variety | None
    """Of the images that a lower precision finds its ranges on."""
    unseen: int | None
    """How many different images of the checks int8 was not calibrated on; None in other precisions."""
    separate: bool
    """The calibration images were given apart from those of the checks."""

    @property
    def text(self) -> str:
        """The images of the checks, for the manifest."""
        if self.unseen is None:
            return self.samples.origin
        others = "all also used for calibration" if not self.unseen else f"{self.unseen} not used for calibration"
        return f"{self.samples.origin}, {others}"

    @property
    def distinct(self) -> int:
        """Different calibration images."""
        return self.calibrating.distinct if self.calibrating else 0


def without_calibration(samples: Samples, variety: Variety) -> ImageEvidence:
    """The images of checks alone; nothing was calibrated."""
    return ImageEvidence(samples, variety, None, None, separate=False)


def weigh(
    samples: Samples, variety: Variety, calibration: Samples, paths: ImagePaths, std: Sequence[float]
) -> ImageEvidence:
    """Judge the images before anything is built on them; `variety` is that of `samples`, `std` that of preprocessing.

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
            "int8 cannot find its scales on these images",
            where=paths.calib or paths.data,
            expected="different images, such as the model will see",
            got=next(itertools.chain(() if separate else weaknesses(variety, std), weaknesses(calibrating, std))),
            remedy=f"give --calib: {ENOUGH} different images are enough",
        )
    unseen = len({*variety.digests} - {*calibrating.digests})
    return ImageEvidence(samples, variety, calibrating, unseen, separate=separate)


def warnings(evidence: ImageEvidence, outputs: NDArray[np.float32], manifest: Manifest) -> tuple[str, ...]:
    """What weakens the checks on the images, or does not fit, one sentence each.

    `outputs` are PyTorch's answers to the images of the checks, [N, outputs].
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
            "the checks ran on the images that int8 was calibrated on, and on no others; give other images as --data, "
            f"or at least {ENOUGH_TO_HOLD_OUT} different ones as --calib"
        )
    if evidence.calibrating is not None and evidence.separate:
        lines += [
            f"of the calibration images: {line}; ranges may be wrong" for line in weaknesses(evidence.calibrating, std)
        ]
    lines += constant_ranges(manifest.lowering)
    if samples.labels is not None and scores.kind == "values":
        lines.append("the outputs are values, so the labels of the images were not used")
    elif samples.labels is not None:
        lines += [f"{line}: accuracy says little" for line in weak_classes(samples.labels, names)]
        lines += class_order.doubts(samples.labels, classes_of(outputs, scores), names, samples.folders)
    return tuple(dict.fromkeys(lines))


def same_answers(outputs: NDArray[np.float32], scores: Scores, names: Sequence[str]) -> list[str]:
    """Where PyTorch decides the same for every image, the answers of an engine can hardly differ."""
    if scores.kind == "values" or len(outputs) < ENOUGH_ANSWERS or len(names) < 2:
        return []
    if len(np.unique(answers(outputs, scores), axis=0)) > 1:
        return []
    answer = int(classes_of(outputs, scores)[0])
    what = f": {names[answer] or f'class {answer}'}" if scores.kind != "independent" or outputs.shape[1] == 1 else ""
    return [f"PyTorch gives all {counted(len(outputs))} the same answer{what}; that engines agree on it proves little"]


def constant_ranges(lowering: Lowering | None) -> tuple[str, ...]:
    """Values that never varied while int8 was calibrated."""
    if lowering is None or not lowering.constant:
        return ()
    shown = ", ".join(lowering.constant[:MOST_NAMED])
    more = f" and {len(lowering.constant) - MOST_NAMED} more" if len(lowering.constant) > MOST_NAMED else ""
    return (
        f"{shown}{more} had one value in all calibration images, so int8 has no range for it; give more varied --calib "
        "images, unless that part of the model does nothing",
    )
