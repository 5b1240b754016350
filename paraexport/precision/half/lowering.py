"""Writes a layout in fp16 or bf16: finds the ranges, converts the graph, and measures its rounding error."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from paraexport.findings.graphs import Lowering, PartError, Rewrite
from paraexport.graph.onnx_file import save
from paraexport.graph.query import operands
from paraexport.model.scores import largest_difference
from paraexport.precision.calibration.histograms import ImageBatches, largest_magnitudes
from paraexport.precision.half import conversion, cpu_emulation
from paraexport.precision.half.formats import HALF_FORMATS, HalfType
from paraexport.precision.judge import JudgedImages
from paraexport.precision.preparation import prepare
from paraexport.precision.running import compute_logits
from paraexport.targets import Dialect


def write(
    traced: Path,
    layout: str,
    half_type: HalfType,
    dialect: Dialect,
    folder: Path,
    *,
    images: ImageBatches,
    origin: str,
    data: JudgedImages,
    errors: tuple[PartError, ...] = (),
    additivity: float | None = None,
) -> tuple[tuple[Rewrite, ...], Lowering]:
    """Write the graph in a layout, for targets of this dialect, into the new `folder`.

    Args:
        errors: those of each branch, and `additivity`, from `branch_errors`.
    """
    prepared = prepare(traced, layout, (), equalised=False)
    model = prepared.model
    ranges = largest_magnitudes(model, conversion.values_to_observe(model.graph), images)
    applied = conversion.convert(model.graph, half_type, ranges)
    error = rounding_error(model, half_type, data)
    products = {
        node.name or "": prepared.costs.get(node.name or "", 0)
        for node in model.graph
        if node.name in prepared.costs and operands(node)[0].dtype == HALF_FORMATS[half_type].dtype
    }
    if half_type in dialect.weights_only:
        cpu_emulation.keep_only_weights(model.graph, half_type)
    folder.mkdir()
    save(model, folder / traced.name)
    return prepared.rewrites, Lowering(
        calibration=origin,
        calibrator="",
        equalised=False,
        kept=(),
        reason="",
        errors=errors,
        additivity=additivity,
        float32=tuple(applied.refusals),
        products=products,
        linear_multiply_adds=prepared.linear_multiply_adds,
        rounding=error,
    )


def rounding_error(model: ir.Model, half_type: HalfType, data: JudgedImages) -> float:
    """max |Δ logit| / max |logit| against PyTorch, with every rounding of the graph carried out as on a GPU.

    CPU runtimes leave out most roundings and never overflow, so their own error would look too small.
    """
    copy = model.clone()
    cpu_emulation.emulate_rounding(copy.graph, half_type)
    got = compute_logits(copy, data.batches)
    difference, largest_logit = largest_difference(data.judge.reference, got, data.judge.scores)
    return difference / (largest_logit or 1.0)
