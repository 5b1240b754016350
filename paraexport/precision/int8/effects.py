"""Measures the remedies against outliers: the error of int8 without them, and as one after another is added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.findings.graphs import Effect
from paraexport.precision.calibration.calibration import Calibration
from paraexport.precision.calibration.calibrators import Scale
from paraexport.precision.int8 import for_target
from paraexport.precision.preparation import Prepared, prepare
from paraexport.precision.running import compute_logits

Array = NDArray[np.float32]
REMEDIES = (
    ("nothing done", "branches", False),
    ("norms folded", "folded", False),
    ("values equalised", "folded", True),
)
"""(remedy, layout, whether values are equalised). Each row includes the remedies above it."""


def measure_effects(
    traced: Path, calibration: Calibration, images: Sequence[Array], *, equalised: bool, error_with_all: float
) -> tuple[Effect, ...]:
    """The error of the logits on the images, remedy by remedy.

    `error_with_all` is the error with all remedies, which the caller has measured already.
    """
    used = REMEDIES if equalised else REMEDIES[:-1]

    def error_in(layout: str, with_equalisation: bool) -> float:
        prepared = prepare(traced, layout, (), equalised=with_equalisation)
        (error,) = logit_errors(prepared, [for_target.find_scales(prepared, calibration, signed=False)], images)
        return error

    errors = [error_in(layout, with_equalisation) for _, layout, with_equalisation in used[:-1]]
    return tuple(Effect(name, error) for (name, *_), error in zip(used, [*errors, error_with_all], strict=True))


def logit_errors(prepared: Prepared, choices: Sequence[Mapping[str, Scale]], images: Sequence[Array]) -> list[float]:
    """‖Δ logits‖ / ‖logits‖ of the graph in int8 against float32, for each choice of scales."""
    exact = compute_logits(prepared.model, images).astype(np.float64)
    exact_norm = float(np.linalg.norm(exact)) or 1.0
    logits = (compute_logits(quantised_copy(prepared, scales), images) for scales in choices)
    return [float(np.linalg.norm(got - exact)) / exact_norm for got in logits]


def quantised_copy(prepared: Prepared, scales: Mapping[str, Scale]) -> ir.Model:
    copy = prepared.model.clone()
    for_target.quantise_products(copy.graph, scales)
    return copy
