"""Writes the layouts of one traced graph in int8, after it has chosen the calibrator and the parts to keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.errors import CheckFailed, InputError
from paraexport.findings.graphs import Effect, Lowering, PartError, Rewrite
from paraexport.findings.words import counted
from paraexport.graph.onnx_file import save
from paraexport.precision.branch_terms import find_branch_terms
from paraexport.precision.calibration.calibration import Calibration
from paraexport.precision.calibration.calibrators import Scale
from paraexport.precision.int8 import for_target
from paraexport.precision.int8.effects import logit_errors, measure_effects, quantised_copy
from paraexport.precision.int8.errors_at_sum import ErrorMeter, SumErrors
from paraexport.precision.int8.kept_parts import KeptParts, smallest_set
from paraexport.precision.int8.linears import holds, parts_of
from paraexport.precision.judge import Judge, JudgedImages
from paraexport.precision.preparation import prepare
from paraexport.precision.running import compute_logits, open_head
from paraexport.targets import Dialect
from paraexport.timing.clock import Progress, silent

Array = NDArray[np.float32]
REFERENCE = "folded"
"""The layout on which calibrators and parts are compared: its branches are separate, and it computes nothing unread."""


@dataclass(frozen=True, kw_only=True)
class Int8Settings:
    """What the user asks of int8."""

    keep: tuple[str, ...]
    """Parts to keep in float32: `branches.3`, `branches.3/layers.1`."""
    max_drop: float | None
    """The largest accuracy drop, in percentage points; None for no limit."""
    equalised: bool


@dataclass(frozen=True, eq=False)
class Int8Decision:
    """What is decided once, for every layout."""

    settings: Int8Settings
    calibration: Calibration
    kept: tuple[str, ...]
    reason: str
    errors: SumErrors | None
    """None if the graph has no sum that joins named branches."""
    effects: tuple[Effect, ...]
    """The error with each remedy against outliers."""
    constant: tuple[str, ...] = ()
    """Values that are one number on all calibration images."""

    def part_errors(self) -> tuple[PartError, ...]:
        """Branch by branch, then layer by layer."""
        if self.errors is None:
            return ()
        errors = {**self.errors.branches, **self.errors.parts}
        return tuple(
            PartError(part, self.errors.relative(error), any(holds(kept, part) for kept in self.kept))
            for part, error in errors.items()
        )


def decide(
    traced: Path,
    calibrations: Sequence[Calibration],
    data: JudgedImages | None,
    settings: Int8Settings,
    progress: Progress = silent,
) -> Int8Decision:
    """Choose the calibrator, and the parts that stay in float32. `max_drop` is measured on `data`.

    `progress` is called with the name of each step when it begins.

    Raises:
        InputError: a part to keep does not exist, or the graph has no product to lower.
        CheckFailed: no set of parts stays within `max_drop`.
    """
    images = [*calibrations[0].images()]
    judged = data if settings.max_drop is not None and not settings.keep else None
    measured = measure(
        traced, calibrations, images, () if judged is None else judged.batches, settings=settings, progress=progress
    )
    kept, reason = settings.keep, "kept by hand" if settings.keep else ""
    if measured.head is not None and judged is not None and settings.max_drop is not None:

        def measure_drop_pp(kept: tuple[str, ...]) -> float:
            progress(f"int8: accuracy with {', '.join(kept) or 'nothing'} in float32")
            prepared = prepare(traced, REFERENCE, kept, equalised=settings.equalised)
            return judged.judge.drop_pp(compute_logits(quantised_copy(prepared, measured.scales), judged.batches))

        choice = smallest_set(measured.errors[1], measured.head, judged.judge, settings.max_drop, measure_drop_pp)
        kept, reason = choice.kept, describe_choice(choice, settings.max_drop, judged.judge)
    progress("int8: effect of each remedy against outliers")
    return Int8Decision(
        settings=settings,
        calibration=measured.calibration,
        kept=kept,
        reason=reason,
        errors=measured.errors[0] if measured.errors else None,
        effects=measure_effects(
            traced,
            measured.calibration,
            images,
            equalised=settings.equalised,
            error_with_all=measured.logit_error,
        ),
        constant=measured.constant,
    )


@dataclass(frozen=True, eq=False)
class Measurement:
    """Results of int8 on the reference layout. They do not hold its graph, which holds all the weights."""

    calibration: Calibration
    """The best of those that were tried."""
    scales: dict[str, Scale]
    logit_error: float
    """‖Δ logits‖ / ‖logits‖ with these scales."""
    errors: Sequence[SumErrors]
    """On the calibration images, then on the judged images if there are any; empty without a sum over branches."""
    head: Callable[[Array], Array] | None
    """The graph from the sum over branches on; None without such a sum."""
    constant: tuple[str, ...]
    """Values that are the same on all calibration images."""


def measure(
    traced: Path,
    calibrations: Sequence[Calibration],
    images: Sequence[Array],
    judged_images: Sequence[Array],
    *,
    settings: Int8Settings,
    progress: Progress,
) -> Measurement:
    prepared = prepare(traced, REFERENCE, (), equalised=settings.equalised)
    parts = parts_of(prepared.model.graph)
    if not prepared.products:
        raise InputError(
            "int8 has nothing to lower",
            where="--precision int8",
            expected="at least one product of an activation and a constant",
            got="none in the graph",
            remedy="choose another --precision",
        )
    check_parts(settings.keep, parts)
    choices = []
    for calibration in calibrations:
        progress(f"int8: scales by {calibration.calibrator}, from {calibration.origin}")
        choices.append(for_target.find_scales(prepared, calibration, signed=False))
    progress("int8: error of the logits")
    errors = logit_errors(prepared, choices, images)
    best = errors.index(min(errors))
    calibration, scales = calibrations[best], choices[best]
    constant = calibration.find_constant(prepared.model, prepared.activations, signed=False)
    terms = find_branch_terms(prepared.model.graph) if parts else None
    if terms is None:
        return Measurement(calibration, scales, errors[best], (), None, constant)
    progress(f"int8: error of each branch and layer, {counted(len(parts), 'part')}")
    meter = ErrorMeter(prepared.model, scales, terms)
    sum_errors = meter.measure_sets([images, judged_images] if judged_images else [images])
    head = open_head(prepared.model, terms.total)
    return Measurement(calibration, scales, errors[best], sum_errors, head, constant)


def describe_choice(choice: KeptParts, max_drop_pp: float, judge: Judge) -> str:
    """Why these parts are kept, in words.

    Raises:
        CheckFailed: the drop is above the limit.
    """
    unit = "points of top-1 lost" if judge.labels is not None else "% of images with another answer"
    if not choice.met:
        kept = ", ".join(choice.kept) or "nothing"
        raise CheckFailed(
            "int8 cannot stay within --max-drop",
            expected=f"at most {max_drop_pp:g} {unit}",
            got=f"{choice.drop_pp:.3g} with {kept} kept in float32, the best of all tried",
            remedy="allow more, calibrate on more images, or use --precision fp16",
        )
    if not choice.kept:
        return f"{max(0.0, choice.drop_pp):.3g} {unit}, {max_drop_pp:g} allowed"
    if judge.labels is not None:
        limit = f"loses at most {max_drop_pp:g} points of top-1: it loses {choice.drop_pp:.3g}"
    else:
        limit = f"changes at most {max_drop_pp:g} % of the answers: it changes {choice.drop_pp:.3g} %"
    return f"this is the smallest set that {limit}"


def write(
    traced: Path, layout: str, dialect: Dialect, folder: Path, decision: Int8Decision
) -> tuple[tuple[Rewrite, ...], Lowering]:
    """Write the graph in a layout, for targets of this dialect, into the new `folder`."""
    equalised, calibration = decision.settings.equalised, decision.calibration
    prepared = prepare(traced, layout, decision.kept, equalised=equalised, own_operators=dialect.own_operators)
    model = for_target.quantise_for(prepared, dialect, calibration)
    forget_shapes(model.graph, inferable=not dialect.own_operators)
    folder.mkdir()
    save(model, folder / traced.name)
    return prepared.rewrites, Lowering(
        calibration=calibration.origin,
        calibrator=calibration.calibrator,
        equalised=equalised and layout != "branches",
        kept=decision.kept,
        reason=decision.reason,
        effects=decision.effects,
        errors=decision.part_errors(),
        additivity=None if decision.errors is None else decision.errors.additivity,
        float32=(),
        products=dict(prepared.products),
        linear_multiply_adds=prepared.linear_multiply_adds,
        constant=decision.constant,
    )


def forget_shapes(graph: ir.Graph, *, inferable: bool) -> None:
    """Remove the shapes of constants, and those that any reader can infer. They are 1 % of an int8 file."""
    computed = [value for node in graph for value in node.outputs if not value.is_graph_output()] if inferable else []
    for value in (*graph.initializers.values(), *computed):
        value.shape = value.type = None
        value.metadata_props.clear()


def check_parts(keep: Sequence[str], parts: Sequence[str]) -> None:
    """Raise an `InputError` if a part to keep does not exist."""
    if unknown := [name for name in keep if not any(holds(name, part) for part in parts)]:
        known = f"some of {', '.join(parts[:4])}, …" if parts else "none: no node is named after a branch"
        raise InputError(
            f"no such part: {', '.join(unknown)}",
            where="--keep",
            expected=known,
            remedy="write a branch as branches.3, and a layer of it as branches.3/layers.1",
        )
