"""Where a built graph first differs from PyTorch, in one clause."""

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
    """One clause on where the graph at `model` first differs from PyTorch; `traced` is what it was rewritten from.

    In lower precision every value differs a little: there it is the parts that do the most to the sum over branches.
    """
    from paraexport.checks.golden import answers
    from paraexport.checks.locate import first_difference, relative_difference

    limit = LIMITS["fp32"]["parity"].value
    original = answers(loaded.original)
    logits = original(images)
    if not relative_difference(logits, original(images)) <= limit:
        return "PyTorch itself does not answer the same twice: is there randomness in the module?"
    if not relative_difference(logits, answers(loaded.module)(images)) <= limit:
        return "the module answers otherwise than the Para-Former of its weights: it decides on values, or clips them"
    if lowering is not None:
        return worst_parts(lowering)
    if traced and (found := first_difference(loaded.module, traced, images, limit)):
        return str(found)
    if found := first_difference(loaded.module, model, images, limit):
        rewriting = "; the traced graph agrees, so the rewriting is at fault: build with --layout branches"
        return f"{found}{rewriting if traced else ''}"
    return "no named value differs on the golden images: the fault is at the output, in the layout, or in the runtime"


def worst_parts(lowering: Lowering) -> str:
    """Where precision is lost, and what to do about it."""
    layers = [one for one in lowering.errors if not one.kept]
    deepest = [one for one in layers if "/" in one.part] or layers
    worst = sorted(deepest, key=lambda one: -one.error)[:3]
    if not lowering.calibrator:
        return "take a higher --precision"
    if not worst:
        return "try more or other --calib images, or a higher --precision"
    remedy = f"try --keep {worst[0].part}, --max-drop PP, more or other --calib images, or a higher --precision"
    parts = ", ".join(f"{one.part} ({one.error:.2g})" for one in worst)
    return f"the most error at the sum over branches comes from {parts}; {remedy}"
