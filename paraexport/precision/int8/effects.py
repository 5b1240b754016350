"""What the exact remedies against outliers are worth: the error of int8 without them, and with one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.findings.graphs import Effect
from paraexport.precision.calibration.calibration import Calibration
from paraexport.precision.calibration.calibrators import Scale
from paraexport.precision.int8 import int8, plan
from paraexport.precision.preparation import Prepared, prepare

Array = NDArray[np.float32]
REMEDIES = (
    ("nothing done", "branches", False),
    ("norms folded", "folded", False),
    ("values equalised", "folded", True),
)
"""(what is done, layout, whether values are equalised), each with all before it."""


def effects(
    traced: Path, calibration: Calibration, images: Sequence[Array], *, equalised: bool, reached: float
) -> tuple[Effect, ...]:
    """The error of the logits on the images, remedy by remedy, as far as they are taken; `reached` is that with all."""
    taken = REMEDIES if equalised else REMEDIES[:-1]

    def error_in(layout: str, with_equalisation: bool) -> float:
        prepared = prepare(traced, layout, (), equalised=with_equalisation)
        (error,) = errors_of(prepared, [int8.scales_of(prepared, calibration, signed=False)], images)
        return error

    errors = [error_in(layout, with_equalisation) for _, layout, with_equalisation in taken[:-1]]
    return tuple(Effect(name, error) for (name, *_), error in zip(taken, [*errors, reached], strict=True))


def errors_of(prepared: Prepared, choices: Sequence[Mapping[str, Scale]], images: Sequence[Array]) -> list[float]:
    """‖Δ logits‖ / ‖logits‖ of the graph in int8, with each choice of scales, against itself in float32."""
    exact = plan.logits_of(prepared.model, images).astype(np.float64)
    whole = float(np.linalg.norm(exact)) or 1.0
    answers = (plan.logits_of(quantised(prepared, scales), images) for scales in choices)
    return [float(np.linalg.norm(got - exact)) / whole for got in answers]


def quantised(prepared: Prepared, scales: Mapping[str, Scale]) -> ir.Model:
    """A copy of the graph in int8."""
    copy = prepared.model.clone()
    int8.write(copy.graph, scales)
    return copy
