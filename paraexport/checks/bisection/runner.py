"""Runs parts of a graph alone on the target of a bundle, and compares them with the graph run node by node."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from paraexport import targets
from paraexport.bundle import MODEL, Bundle
from paraexport.checks.bisection.cut import Part
from paraexport.checks.bisection.submodel import pack, submodel, unpack
from paraexport.checks.bisection.values import Array, Form, ReferenceGraph
from paraexport.errors import on_one_line
from paraexport.findings.bisection import PartDifference
from paraexport.graph.onnx_file import save
from paraexport.targets.compilation import EngineOptions
from paraexport.targets.folder import Folder
from paraexport.timing.clock import silent

SHOWN = 200


@dataclass(frozen=True, eq=False, kw_only=True)
class Runner:
    """The target of a bundle, the graph, and the images to run parts on."""

    bundle: Bundle
    options: EngineOptions
    model: ir.Model
    forms: Mapping[str, Form]
    reference: ReferenceGraph
    images: Array
    """[N, C, H, W], at most `max_batch` of them."""
    stacked: frozenset[ir.Node]
    """The nodes that compute several branches at once."""

    def differences(self, parts: Iterable[Part], within: str = "") -> list[PartDifference]:
        """The difference of each part when it gets the right input."""
        chosen = [*parts]
        expected = self.reference.floats(
            (name for part in chosen for name in (*part.inputs, *part.outputs)), self.images
        )
        return [self.difference(part, within, expected) for part in chosen]

    def difference(self, part: Part, within: str, expected: Mapping[str, Array]) -> PartDifference:
        model, inputs = submodel(self.model, part, self.forms), pack(expected, part.inputs, len(self.images))
        try:
            answer = self.answer(model, inputs)
        except Exception as error:  # each runtime has errors of its own
            failure = on_one_line(error)[:SHOWN] or type(error).__name__
            return PartDifference(part.name, within, len(part.nodes), None, failure=failure)
        got = unpack(answer, part.outputs, self.forms)
        branches = self.by_branch(part, expected, got)
        plain = [name for name in part.outputs if name not in stacked_outputs(part, self.stacked)]
        extent = max((*branches.values(), *(distance(expected[name], got[name]) for name in plain)))
        by_branch = {name: finite(branch_extent) for name, branch_extent in branches.items()}
        return PartDifference(part.name, within, len(part.nodes), finite(extent), by_branch)

    def by_branch(self, part: Part, expected: Mapping[str, Array], got: Mapping[str, Array]) -> dict[str, float]:
        """The difference of each stacked branch; empty if the part has no stacked output."""
        distances: dict[str, float] = {}
        for name in stacked_outputs(part, self.stacked):
            count = self.forms[name].branches
            pairs = zip(np.split(expected[name], count), np.split(got[name], count), strict=True)
            for index, pair in enumerate(pairs):
                label = self.branch_name(index, count)
                distances[label] = max(distances.get(label, 0.0), distance(*pair))
        return distances

    def branch_name(self, index: int, count: int) -> str:
        """The name of a stacked branch.

        Branches that stay in higher precision are stacked separately. Then the graph does not contain their numbers.
        """
        spec = self.bundle.manifest.spec
        return f"branches.{index}" if spec and count == spec.branches else f"{index + 1} of {count} stacked branches"

    def answer(self, model: ir.Model, inputs: Array) -> Array:
        """The answer of the target; both are [N, columns]."""
        manifest = self.bundle.manifest
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            save(model, folder / MODEL)
            if (compiler := targets.compiler(manifest.target)) is not None:
                compiler.compile_model(folder, manifest.max_batch, self.options, silent)
            workload = targets.Workload(
                image=inputs.shape[1:], max_batch=manifest.max_batch, precision=manifest.precision
            )
            return targets.require(manifest.target).open_session(Folder(folder), workload)(inputs)


def stacked_outputs(part: Part, stacked: frozenset[ir.Node]) -> list[str]:
    names = {value.name for node in part.nodes & stacked for value in node.outputs}
    return [name for name in part.outputs if name in names]


def distance(expected: Array, got: Array) -> float:
    """max |Δ| / max |expected|; infinite if a number of `got` is not finite."""
    if not np.isfinite(got).all():
        return math.inf
    return float(np.abs(expected - got).max()) / (float(np.abs(expected).max()) or 1.0)


def finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
