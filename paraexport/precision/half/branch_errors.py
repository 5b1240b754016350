"""Measures the error of half precision at the sum over branches, for each branch.

z = Σ_l y_l, and y_l depends on no other branch, so the error of z is the sum of the errors of the branches, and that of
the addition itself. One run with every rounding carried out measures all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.findings.graphs import PartError
from paraexport.graph.free_names import fresh, names_in
from paraexport.precision.branch_terms import find_branch_terms
from paraexport.precision.calibration.histograms import ImageBatches, largest_magnitudes
from paraexport.precision.half import conversion, cpu_emulation
from paraexport.precision.half.cast_insertion import FLOAT, cast_node
from paraexport.precision.half.formats import HalfType
from paraexport.precision.preparation import prepare
from paraexport.targets.ort.probe import open_probe

LAYOUT = "branches"
"""The layout in which the values of the branches are apart."""
MOST_BATCHES = 8
Array = NDArray[np.float64]


def branch_errors(
    traced: Path, half_type: HalfType, images: ImageBatches
) -> tuple[tuple[PartError, ...], float | None]:
    """The relative error of each branch, ‖Δy_l‖ / ‖z‖, and how much of the whole error they do not explain.

    Both are empty if the graph has no sum over branches.
    """
    model = prepare(traced, LAYOUT, (), equalised=False).model
    terms = find_branch_terms(model.graph)
    if terms is None:
        return (), None
    batches = [batch for _, batch in zip(range(MOST_BATCHES), images(), strict=False)]
    exact = run(model, terms.values, batches)
    conversion.convert(
        model.graph, half_type, largest_magnitudes(model, conversion.values_to_observe(model.graph), images)
    )
    cpu_emulation.emulate_rounding(model.graph, half_type)
    rounded = run(model, in_float32(model.graph, terms.values), batches)
    differences = [got - expected for got, expected in zip(rounded, exact, strict=True)]
    size = float(np.linalg.norm(exact[0])) or 1.0
    together, by_branch = differences[0], terms.by_branch(differences)
    unexplained = together - np.sum([*by_branch.values()], axis=0)
    parts = tuple(
        PartError(branch, float(np.linalg.norm(error)) / size, kept=False) for branch, error in by_branch.items()
    )
    return parts, float(np.linalg.norm(unexplained)) / (float(np.linalg.norm(together)) or 1.0)


def in_float32(graph: ir.Graph, names: Sequence[str]) -> list[str]:
    """The names of these values cast to float32: NumPy has no bfloat16."""
    values = {value.name: value for node in graph for value in node.outputs}
    taken, casts = names_in(graph), []
    for name in names:
        cast = cast_node(values[name], FLOAT, fresh(f"{name}/float32", taken))
        graph.append(cast)
        casts.append(cast.outputs[0].name or "")
    return casts


def run(model: ir.Model, names: Sequence[str], batches: Sequence[NDArray[np.float32]]) -> list[Array]:
    """These values for all images."""
    with open_probe(model, names) as probe:
        by_batch = [probe(images) for images in batches]
    return [np.concatenate(values).astype(np.float64) for values in zip(*by_batch, strict=True)]
