"""Finds the place where a built graph first differs from PyTorch, and describes it in one clause."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paraexport.checks.limits import LIMITS
from paraexport.findings.graphs import Lowering

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint


def blame(
    loaded: Checkpoint,
    model: Path,
    images: NDArray[np.float32],
    traced: Path | None = None,
    lowering: Lowering | None = None,
) -> str:
    """Describe in one clause where the graph at `model` first differs from PyTorch.

    In lower precision every value differs a little. Then the clause names the parts that add the most error to the sum
    over branches.

    Args:
        images: the golden images, [n, C, H, W].
        traced: the graph before it was rewritten, if there is one.
        lowering: only for lower precision.
    """
    from paraexport.checks.golden import answers
    from paraexport.checks.locate import first_difference, relative_difference

    limit = LIMITS["fp32"]["parity"].value
    original = answers(loaded.original)
    logits = original(images)
    if not relative_difference(logits, original(images)) <= limit:
        return "PyTorch itself gives different answers for the same images; remove random numbers from the module"
    if not relative_difference(logits, answers(loaded.module)(images)) <= limit:
        return "the module differs from the Para-Former with its weights: perhaps it decides on values, or clips them"
    if lowering is not None:
        return worst_parts(lowering)
    if traced and (difference := first_difference(loaded.module, traced, images, limit)):
        return str(difference)
    if difference := first_difference(loaded.module, model, images, limit):
        rewriting = "; the traced graph is right, so a rewrite is wrong: build with --layout branches"
        return f"{difference}{rewriting if traced else ''}"
    return "no named value differs on the golden images: the fault is at the output, in the layout, or in the runtime"


def worst_parts(lowering: Lowering) -> str:
    """Name the parts that lose the most precision, and a remedy."""
    lowered = [part_error for part_error in lowering.errors if not part_error.kept]
    layers = [part_error for part_error in lowered if "/" in part_error.part] or lowered
    worst = sorted(layers, key=lambda part_error: -part_error.error)[:3]
    if not lowering.calibrator:
        return "use a higher --precision"
    if not worst:
        return "try more or other --calib images, or a higher --precision"
    remedy = f"try --keep {worst[0].part}, --max-drop PP, more or other --calib images, or a higher --precision"
    parts = ", ".join(f"{part_error.part} ({part_error.error:.2g})" for part_error in worst)
    return f"the most error at the sum over branches comes from {parts}; {remedy}"
