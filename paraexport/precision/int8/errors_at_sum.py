"""Measures the error of int8 at the sum over branches, for each branch and for each layer of a branch.

z = Σ_l y_l, and y_l depends on no other branch. So the error of z is exactly the sum of the errors of the branches,
e = Σ_l e_l, and one run measures all branches. The same works for layers: lower only layer m in every branch, and the
output of each branch shows the error of its own layer m.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.precision.branch_terms import BranchTerms
from paraexport.precision.calibration.calibrators import Scale
from paraexport.precision.int8.linears import holds, is_within, linears, parts_of
from paraexport.precision.int8.quantise import apply
from paraexport.targets.ort.probe import open_probe

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SumErrors:
    """Errors at the sum over branches. Every array has the shape of the sum, [N, …]."""

    total: Array
    """The sum z in float32."""
    together: Array
    """The error of z with everything lowered."""
    branches: Mapping[str, Array]
    """The error of each branch with all of it lowered."""
    parts: Mapping[str, Array]
    """The error that each layer of each branch adds when it alone is lowered."""

    @property
    def additivity(self) -> float:
        """‖e − Σ_l e_l‖ / ‖e‖. Only rounding makes it differ from zero."""
        rest = self.together - np.sum([*self.branches.values()], axis=0)
        return norm(rest) / (norm(self.together) or 1.0)

    def relative(self, error: Array) -> float:
        """‖error‖ / ‖z‖."""
        return norm(error) / (norm(self.total) or 1.0)

    def with_kept(self, kept: Sequence[str]) -> Array:
        """The error of z with these parts in float32.

        It is exact for branches that are lowered whole or not at all. For a branch with some layers lowered it is the
        sum of the errors that these layers have alone, which is an estimate.
        """
        error = np.zeros_like(self.total)
        for branch, branch_error in self.branches.items():
            layers = [part for part in self.parts if holds(branch, part)]
            lowered = [part for part in layers if not any(holds(outer, part) for outer in kept)]
            if len(lowered) == len(layers):
                error += branch_error
            else:
                for part in lowered:
                    error += self.parts[part]
        return error


class ErrorMeter:
    """Runs a float32 graph, and copies with some parts in int8, and compares the sum over branches.

    Only one of them is open at a time, because each holds all the weights.
    """

    def __init__(self, model: ir.Model, scales: Mapping[str, Scale], terms: BranchTerms) -> None:
        self.model, self.scales, self.terms = model, scales, terms
        self.parts = parts_of(model.graph)

    def measure(self, batches: Iterable[Array]) -> SumErrors:
        """The errors on images [N, C, H, W] in batches."""
        (errors,) = self.measure_sets([[*batches]])
        return errors

    def measure_sets(self, image_sets: Sequence[Sequence[Array]]) -> list[SumErrors]:
        """The errors on each of several sets of images; each graph is opened only once."""
        exact = self.run(self.model, image_sets)
        lowered = self.run(lower_parts(self.model, self.scales, self.parts), image_sets)
        part_errors: list[dict[str, Array]] = [{} for _ in image_sets]
        for layer in self.parts_by_layer():
            for index, values in enumerate(self.run(lower_parts(self.model, self.scales, layer), image_sets)):
                branch_errors = self.branch_errors(exact[index], values)
                part_errors[index] |= {part: branch_errors[part.partition("/")[0]] for part in layer}
        return [
            SumErrors(
                total=values[0],
                together=lowered_values[0] - values[0],
                branches=self.branch_errors(values, lowered_values),
                parts={part: by_part[part] for part in self.parts},
            )
            for values, lowered_values, by_part in zip(exact, lowered, part_errors, strict=True)
        ]

    def parts_by_layer(self) -> list[list[str]]:
        """The parts in groups: the first layer of every branch, the second layer of every branch, and so on."""
        groups: dict[str, list[str]] = {}
        for part in self.parts:
            groups.setdefault(part.partition("/")[2], []).append(part)
        return [*groups.values()]

    def run(self, model: ir.Model, image_sets: Sequence[Sequence[Array]]) -> list[list[Array]]:
        """The sum and its terms on each set of images."""
        with open_probe(model, self.terms.values) as probe:
            by_set = [[probe(images) for images in batches] for batches in image_sets]
        return [[np.concatenate(values) for values in zip(*batches, strict=True)] for batches in by_set]

    def branch_errors(self, exact: Sequence[Array], got: Sequence[Array]) -> dict[str, Array]:
        """The error of each branch, from the sum and its terms in float32 and lowered."""
        return self.terms.by_branch([value - reference for value, reference in zip(got, exact, strict=True)])


def lower_parts(model: ir.Model, scales: Mapping[str, Scale], parts: Iterable[str]) -> ir.Model:
    """A copy with the products of these parts in int8."""
    copy, wanted = model.clone(), list(parts)
    apply(copy.graph, [node for node in linears(copy.graph) if is_within(node.name, wanted)], scales)
    return copy


def norm(array: Array) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))
