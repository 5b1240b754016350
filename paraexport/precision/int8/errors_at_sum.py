"""What each branch, and each layer of one, adds to the error of int8 at the sum over branches.

z = Σ_l y_l, and y_l depends on no other branch, so that the error of z is exactly the sum of the branches' errors:
e = Σ_l e_l. Hence all branches are measured in one run. The same holds for one layer of every branch at a time: layer m
alone is lowered everywhere, and each branch's output tells the error of its own layer m.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.precision.calibration.calibrators import Scale
from paraexport.precision.int8.linears import holds, is_within, linears, parts_of
from paraexport.precision.int8.meeting import Meeting
from paraexport.precision.int8.quantise import apply
from paraexport.targets.ort.probe import open_probe

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors at the sum, arrays like it, [N, …]."""

    total: Array
    """z in float32."""
    together: Array
    """Of z with everything lowered."""
    branches: Mapping[str, Array]
    """Of each branch with all of it lowered."""
    parts: Mapping[str, Array]
    """Of each layer of each branch, alone."""

    @property
    def additivity(self) -> float:
        """‖e − Σ_l e_l‖ / ‖e‖, which is rounding."""
        rest = self.together - np.sum([*self.branches.values()], axis=0)
        return norm(rest) / (norm(self.together) or 1.0)

    def relative(self, error: Array) -> float:
        """‖error‖ / ‖z‖."""
        return norm(error) / (norm(self.total) or 1.0)

    def with_kept(self, kept: Sequence[str]) -> Array:
        """The error of z with these parts in float32: exact for whole branches, else the sum over layers alone."""
        error = np.zeros_like(self.total)
        for branch, whole in self.branches.items():
            own = [part for part in self.parts if holds(branch, part)]
            lowered = [part for part in own if not any(holds(one, part) for one in kept)]
            if len(lowered) == len(own):
                error += whole
            else:
                for part in lowered:
                    error += self.parts[part]
        return error


class Probes:
    """A float32 graph, and the same with some of its parts in int8, as probes of the sum and its terms.

    One of them is open at a time: each holds all the weights.
    """

    def __init__(self, model: ir.Model, scales: Mapping[str, Scale], meeting: Meeting) -> None:
        self.model, self.scales, self.meeting = model, scales, meeting
        self.parts = parts_of(model.graph)

    def errors(self, batches: Iterable[Array]) -> Errors:
        """Measured on images [N, C, H, W], batch by batch."""
        (errors,) = self.errors_on([[*batches]])
        return errors

    def errors_on(self, sets: Sequence[Sequence[Array]]) -> list[Errors]:
        """The same on several sets of images, in one round."""
        exact = self.answers(self.model, sets)
        together = self.answers(lowered(self.model, self.scales, self.parts), sets)
        parts: list[dict[str, Array]] = [{} for _ in sets]
        for layer in self.layers():
            for index, values in enumerate(self.answers(lowered(self.model, self.scales, layer), sets)):
                by_branch = self.by_branch(exact[index], values)
                parts[index] |= {part: by_branch[part.partition("/")[0]] for part in layer}
        found = []
        for wanted, got, own in zip(exact, together, parts, strict=True):
            in_order = {part: own[part] for part in self.parts}
            found.append(Errors(wanted[0], got[0] - wanted[0], self.by_branch(wanted, got), in_order))
        return found

    def layers(self) -> list[list[str]]:
        """The parts: the first layer of every branch, the second, and so on."""
        found: dict[str, list[str]] = {}
        for part in self.parts:
            found.setdefault(part.partition("/")[2], []).append(part)
        return [*found.values()]

    def answers(self, model: ir.Model, sets: Sequence[Sequence[Array]]) -> list[list[Array]]:
        """The sum and its terms on each set of images."""
        with open_probe(model, self.meeting.values) as run:
            answered = [[run(images) for images in batches] for batches in sets]
        return [[np.concatenate(values) for values in zip(*one, strict=True)] for one in answered]

    def by_branch(self, exact: Sequence[Array], got: Sequence[Array]) -> dict[str, Array]:
        difference = iter(np.subtract(one, other) for one, other in zip(got[1:], exact[1:], strict=True))
        return {
            branch: np.sum([next(difference) for _ in names], axis=0) for branch, names in self.meeting.terms.items()
        }


def lowered(model: ir.Model, scales: Mapping[str, Scale], parts: Iterable[str]) -> ir.Model:
    """A copy with the products of these parts in int8."""
    copy, wanted = model.clone(), list(parts)
    apply(copy.graph, [node for node in linears(copy.graph) if is_within(node.name, wanted)], scales)
    return copy


def norm(array: Array) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))
