"""A prepared graph in int8: the scales of what its products read, Q/DQ around each, and what a target likes better."""

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


def lower_graph(prepared: Prepared, dialect: Dialect, calibration: Calibration) -> ir.Model:
    """The graph in int8, in the dialect of a target; `prepared` is used up."""
    model = prepared.model
    scales = scales_of(prepared, calibration, signed=dialect.signed)
    if dialect.bias_rows:
        for_openvino.lower(model.graph, scales)
        return model
    write(model.graph, scales)
    if dialect.own_operators:
        for_onnxruntime.products(model.graph)
        skips.apply(model.graph)
    return model


def scales_of(prepared: Prepared, calibration: Calibration, *, signed: bool) -> dict[str, Scale]:
    return calibration.scales(prepared.model, prepared.activations, signed=signed)


def write(graph: ir.Graph, scales: Mapping[str, Scale]) -> None:
    quantise.apply(graph, linears(graph), scales)
