"""What the exact remedies against outliers are worth: the error of int8 without them, and with one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.precision import int8, plan
from paraexport.precision.calibration import Calibration
from paraexport.precision.calibrators import Scale
from paraexport.spec import Effect

Array = NDArray[np.float32]
REMEDIES = (
    ("nothing done", "branches", False),
    ("norms folded", "folded", False),
    ("values equalised", "folded", True),
)
"""(what is done, layout, whether values are equalised), each with all before it."""


def effects(traced: Path, calibration: Calibration, *, equalised: bool) -> tuple[Effect, ...]:
    """The error of the logits on the calibration images, remedy by remedy, as far as they are taken."""
    images = [*calibration.images()]
    found = []
    for name, layout, with_equalisation in REMEDIES:
        if with_equalisation and not equalised:
            continue
        prepared = int8.prepare(traced, layout, (), equalised=with_equalisation)
        found.append(Effect(name, error_of(prepared, int8.scales_of(prepared, calibration, signed=False), images)))
    return tuple(found)


def error_of(prepared: int8.Prepared, scales: Mapping[str, Scale], images: Sequence[Array]) -> float:
    """‖Δ logits‖ / ‖logits‖ of the graph in int8 against itself in float32."""
    exact = plan.logits_of(prepared.model)(images).astype(np.float64)
    got = plan.logits_of(quantised(prepared, scales))(images)
    return float(np.linalg.norm(got - exact) / (np.linalg.norm(exact) or 1.0))


def quantised(prepared: int8.Prepared, scales: Mapping[str, Scale]) -> ir.Model:
    """A copy of the graph in int8."""
    copy = prepared.model.clone()
    int8.write(copy.graph, scales)
    return copy
