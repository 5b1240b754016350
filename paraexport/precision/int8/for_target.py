"""Writes a prepared graph in int8 for a target: finds the scales, adds Q/DQ, and applies what is fast there."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from paraexport.precision.calibration.calibration import Calibration
from paraexport.precision.calibration.calibrators import Scale
from paraexport.precision.int8 import for_onnxruntime, for_openvino, quantise
from paraexport.precision.int8.linears import linears
from paraexport.precision.preparation import Prepared
from paraexport.rewrite.passes import skips
from paraexport.targets import Dialect


def quantise_for(prepared: Prepared, dialect: Dialect, calibration: Calibration) -> ir.Model:
    """The graph in int8, in the dialect of a target. It changes the graph of `prepared` in place."""
    model = prepared.model
    scales = find_scales(prepared, calibration, signed=dialect.signed)
    if dialect.bias_rows:
        for_openvino.lower(model.graph, scales)
        return model
    quantise_products(model.graph, scales)
    if dialect.own_operators:
        for_onnxruntime.products(model.graph)
        skips.apply(model.graph)
    return model


def find_scales(prepared: Prepared, calibration: Calibration, *, signed: bool) -> dict[str, Scale]:
    """The scale of each value that the products to lower read."""
    return calibration.find_scales(prepared.model, prepared.activations, signed=signed)


def quantise_products(graph: ir.Graph, scales: Mapping[str, Scale]) -> None:
    quantise.apply(graph, linears(graph), scales)
