"""int8 for one traced graph: what is decided once, on the reference layout, and every layout made by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.errors import CheckFailed, InputError
from paraexport.findings.graphs import Effect, Lowering, PartError, Rewrite
from paraexport.graph.onnx_file import save
from paraexport.precision.calibration.calibration import Calibration
from paraexport.precision.calibration.calibrators import Scale
from paraexport.precision.data import Data, Judge
from paraexport.precision.int8 import int8, plan
from paraexport.precision.int8.effects import effects, errors_of, quantised
from paraexport.precision.int8.errors_at_sum import Errors, Probes
from paraexport.precision.int8.linears import holds, parts_of
from paraexport.precision.int8.meeting import meeting_of
from paraexport.precision.preparation import prepare
from paraexport.targets import Dialect

Array = NDArray[np.float32]
REFERENCE = "folded"
"""The layout on which calibrators and parts are compared: the branches are apart, and nothing unread is computed."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked of int8."""

    keep: tuple[str, ...]
    """Parts to keep in float32, given by hand: `branches.3`, `branches.3/layers.1`."""
    max_drop: float | None
    equalised: bool


@dataclass(frozen=True, eq=False)
class Decided:
    """What holds for every layout."""

    wanted: Wanted
    calibration: Calibration
    kept: tuple[str, ...]
    reason: str
    errors: Errors | None
    """None where no names tell of branches that meet in a sum."""
    effects: tuple[Effect, ...]
    """What the remedies against outliers are worth."""
    constant: tuple[str, ...] = ()
    """Values that are one number on all calibration images."""

    def part_errors(self) -> tuple[PartError, ...]:
        """Branch by branch, then layer by layer."""
        if self.errors is None:
            return ()
        found = {**self.errors.branches, **self.errors.parts}
        return tuple(
            PartError(part, self.errors.relative(error), any(holds(kept, part) for kept in self.kept))
            for part, error in found.items()
        )


def decide(traced: Path, calibrations: Sequence[Calibration], data: Data | None, wanted: Wanted) -> Decided:
    """The calibrator, and the parts that stay in float32; `data` is what `max_drop` is measured on.

    Raises:
        InputError: a part to be kept does not exist.
        CheckFailed: no choice of parts stays within `max_drop`.
    """
    images = [*calibrations[0].images()]
    planned = data if wanted.max_drop is not None and not wanted.keep else None
    found = measure(traced, calibrations, images, () if planned is None else planned.batches, wanted)
    calibration, scales = found.calibration, found.scales
    kept, reason = wanted.keep, "kept by hand" if wanted.keep else ""
    if found.head is not None and planned is not None and wanted.max_drop is not None:

        def lost(kept: tuple[str, ...]) -> float:
            again = prepare(traced, REFERENCE, kept, equalised=wanted.equalised)
            return planned.judge.lost(plan.logits_of(quantised(again, scales), planned.batches))

        least = plan.smallest(found.errors[1], found.head, planned.judge, wanted.max_drop, lost)
        kept, reason = least.kept, told(least, wanted.max_drop, planned.judge)
    worth = effects(traced, calibration, images, equalised=wanted.equalised, reached=found.reached)
    return Decided(wanted, calibration, kept, reason, found.errors[0] if found.errors else None, worth, found.constant)


@dataclass(frozen=True, eq=False)
class Measured:
    """What is known of int8 on the reference layout; its graph is gone by then, since it holds all the weights."""

    calibration: Calibration
    """The best of those that were tried."""
    scales: dict[str, Scale]
    reached: float
    """Error of the logits with them."""
    errors: Sequence[Errors]
    """On the calibration images, and on those that a plan is judged on where there is one; empty without a meeting."""
    head: Callable[[Array], Array] | None
    """From the sum over branches on; None without a meeting."""
    constant: tuple[str, ...]
    """Values that are the same on all calibration images."""


def measure(
    traced: Path, calibrations: Sequence[Calibration], images: Sequence[Array], planned: Sequence[Array], wanted: Wanted
) -> Measured:
    prepared = prepare(traced, REFERENCE, (), equalised=wanted.equalised)
    parts = parts_of(prepared.model.graph)
    if not prepared.products:
        raise InputError(
            "int8 has nothing to lower: no product by a constant",
            where="--precision int8",
            remedy="take another --precision",
        )
    check_parts(wanted.keep, parts)
    choices = [int8.scales_of(prepared, one, signed=False) for one in calibrations]
    reached = errors_of(prepared, choices, images)
    best = reached.index(min(reached))
    meeting = meeting_of(prepared.model.graph) if parts else None
    constant = calibrations[best].constant(prepared.model, prepared.activations, signed=False)
    if meeting is None:
        return Measured(calibrations[best], choices[best], reached[best], (), None, constant)
    probes = Probes(prepared.model, choices[best], meeting)
    errors = probes.errors_on([images, planned] if planned else [images])
    head = plan.head_of(prepared.model, meeting.total)
    return Measured(calibrations[best], choices[best], reached[best], errors, head, constant)


def told(found: plan.Plan, allowed: float, judge: Judge) -> str:
    """The plan in words.

    Raises:
        CheckFailed: it does not do what was asked.
    """
    unit = "% of images answered otherwise" if judge.labels is None else "points of top-1"
    if not found.met:
        raise CheckFailed(
            "int8 cannot stay within --max-drop",
            expected=f"at most {allowed:g} {unit} lost",
            got=f"{found.lost:.3g} with {', '.join(found.kept) or 'nothing'} kept in float32, the best of all tried",
            remedy="allow more, calibrate on more images, or take --precision fp16",
        )
    if not found.kept:
        return f"nothing needs to be kept: {found.lost:.3g} {unit} lost, {allowed:g} allowed"
    return f"the fewest with which at most {allowed:g} {unit} are lost: {found.lost:.3g}"


def write(
    traced: Path, layout: str, dialect: Dialect, folder: Path, decided: Decided
) -> tuple[tuple[Rewrite, ...], Lowering]:
    """Write the graph in a layout, for targets of this dialect, into the new `folder`."""
    equalised, calibration = decided.wanted.equalised, decided.calibration
    prepared = prepare(traced, layout, decided.kept, equalised=equalised, own_operators=dialect.own_operators)
    model = int8.lower_graph(prepared, dialect, calibration)
    forget_shapes(model.graph, inferable=not dialect.own_operators)
    folder.mkdir()
    save(model, folder / traced.name)
    return prepared.rewrites, Lowering(
        calibration=calibration.origin,
        calibrator=calibration.calibrator,
        equalised=equalised and layout != "branches",
        kept=decided.kept,
        reason=decided.reason,
        effects=decided.effects,
        errors=decided.part_errors(),
        additivity=None if decided.errors is None else decided.errors.additivity,
        float32=(),
        products=dict(prepared.products),
        linear_multiply_adds=prepared.linear_multiply_adds,
        constant=decided.constant,
    )


def forget_shapes(graph: ir.Graph, *, inferable: bool) -> None:
    """Leave out the shapes that constants have anyway, and those that any reader can infer: 1 % of an int8 file."""
    computed = [value for node in graph for value in node.outputs if not value.is_graph_output()] if inferable else []
    for value in (*graph.initializers.values(), *computed):
        value.shape = value.type = None
        value.metadata_props.clear()


def check_parts(keep: Sequence[str], parts: Sequence[str]) -> None:
    if unknown := [one for one in keep if not any(holds(one, part) for part in parts)]:
        some = f"{', '.join(parts[:4])}, …" if parts else "none: no names tell of branches"
        raise InputError(
            f"no such part: {', '.join(unknown)}",
            where="--keep",
            expected=f"some of {some}",
            remedy="a branch is written branches.3, a layer of it branches.3/layers.1",
        )
