"""A layout in fp16 or bf16: ranges found, the graph typed, and what its roundings do to the answers."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from paraexport.findings.graphs import Lowering, Rewrite
from paraexport.graph.onnx_file import save
from paraexport.graph.query import operands
from paraexport.model.scores import largest_difference
from paraexport.precision.calibration.ranges import Images, largest
from paraexport.precision.data import Data
from paraexport.precision.half import half, half_cpu
from paraexport.precision.half.span import SPANS, Kind
from paraexport.precision.int8 import plan
from paraexport.precision.preparation import prepare
from paraexport.targets import Dialect


def write(
    traced: Path, layout: str, kind: Kind, dialect: Dialect, folder: Path, *, images: Images, origin: str, data: Data
) -> tuple[tuple[Rewrite, ...], Lowering]:
    """Write the graph in a layout, for targets of this dialect, into the new `folder`."""
    prepared = prepare(traced, layout, (), equalised=False)
    model = prepared.model
    ranges = largest(model, half.values_to_observe(model.graph), images)
    applied = half.apply(model.graph, kind, ranges)
    rounded = rounding_error(model, kind, data)
    products = {
        node.name or "": prepared.costs.get(node.name or "", 0)
        for node in model.graph
        if node.name in prepared.costs and operands(node)[0].dtype == SPANS[kind].dtype
    }
    if kind in dialect.weights_only:
        half_cpu.weights_only(model.graph, kind)
    folder.mkdir()
    save(model, folder / traced.name)
    return prepared.rewrites, Lowering(
        calibration=origin,
        calibrator="",
        equalised=False,
        kept=(),
        reason="",
        errors=(),
        additivity=None,
        float32=tuple(applied.refusals),
        products=products,
        linear_multiply_adds=prepared.linear_multiply_adds,
        rounding=rounded,
    )


def rounding_error(model: ir.Model, kind: Kind, data: Data) -> float:
    """max |Δ logit| / max |logit| against PyTorch with every rounding of the graph carried out, as on a GPU.

    A CPU runtime leaves most of them out, and neither overflows nor errs as the target of half precision will.
    """
    copy = model.clone()
    half_cpu.for_cpu(copy.graph, kind)
    got = plan.logits_of(copy, data.batches)
    difference, largest = largest_difference(data.judge.reference, got, data.judge.scores)
    return difference / (largest or 1.0)
