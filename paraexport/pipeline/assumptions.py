"""Lists what a build assumes besides the fields of the spec: outputs, layout, and calibration images."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paraexport import targets
from paraexport.findings.assumptions import Assumption
from paraexport.images.dataset import Samples
from paraexport.images.wording import counted
from paraexport.model.spec import Scores
from paraexport.pipeline.images import ENOUGH, FEW
from paraexport.pipeline.options import ImagePaths, Options, Reading
from paraexport.pipeline.settle_scores import FIELD, OPTION, settle

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint
    from paraexport.trace.endings import Ending


def settle_outputs(
    loaded: Checkpoint, reading: Reading, ending: Ending, outputs: NDArray[np.float32]
) -> tuple[Scores, tuple[Assumption, ...]]:
    """Decide what the outputs of the model mean, and list the assumptions. `outputs` are those of PyTorch."""
    source = OPTION if FIELD in reading.spec else "the config of the checkpoint"
    scores, assumed = settle(loaded.scores, source, ending, outputs)
    return dataclasses.replace(scores, negative=loaded.negative if scores.probabilities else ""), assumed


def about_layout(options: Options) -> tuple[Assumption, ...]:
    if (layout := options.untimed_layout) is None:
        return ()
    idle = targets.get(options.target).availability().idle
    reason = f"nothing can be timed here: {idle}; auto takes the layout that is usually the fastest on this target"
    return (Assumption("layout", layout, reason),)


def about_precision(paths: ImagePaths, calibration: Samples, distinct: int, target: str) -> tuple[Assumption, ...]:
    """List notes about the calibration images, and about half precision that gains nothing on this target."""
    if paths.precision == "fp32":
        if paths.calib is None or paths.data is None:
            return ()
        return (Assumption("calib", "unused", "fp32 needs no calibration, and the checks run on the images of --data"),)
    if paths.precision != "int8":
        runs_in = targets.get(target).dialect.half_runs_in
        return (Assumption("precision", paths.precision, f"{target} computes it in {runs_in}"),) if runs_in else ()
    assumed = []
    if paths.calib is None and paths.data is not None:
        reason = "without --calib, int8 finds its scales on images that also measure accuracy"
        assumed.append(Assumption("calib", "the images of --data", reason))
    if distinct < FEW:
        different = f"{distinct} different of {len(calibration)}"
        images = counted(distinct, "image") if distinct == len(calibration) else different
        reason = f"so few images may not represent those in use; {ENOUGH} are enough"
        assumed.append(Assumption("calib", images, reason))
    return tuple(assumed)
