"""A prepared graph in int8: the scales of what its products read, Q/DQ around each, and what a target likes better."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_ir as ir

from paraexport.precision import for_onnxruntime, for_openvino, quantise
from paraexport.precision.calibration import Calibration
from paraexport.precision.calibrators import Scale
from paraexport.precision.linears import linears
from paraexport.precision.preparation import Prepared
from paraexport.targets import Dialect


def lower_graph(prepared: Prepared, dialect: Dialect, calibration: Calibration) -> ir.Model:
    """The graph in int8, in the dialect of a target; `prepared` is used up."""
    model = prepared.model
    scales = scales_of(prepared, calibration, signed=dialect.signed)
    inside = for_openvino.before_functions(model.graph) if dialect.bias_rows else []
    write(model.graph, scales, for_openvino.with_one_scale(model.graph, scales) if dialect.bias_rows else ())
    if dialect.own_operators:
        for_onnxruntime.products(model.graph)
        for_onnxruntime.skips(model.graph)
    if dialect.bias_rows:
        for_openvino.rows(model.graph, inside)
    return model


def scales_of(prepared: Prepared, calibration: Calibration, *, signed: bool) -> dict[str, Scale]:
    return calibration.scales(prepared.model, prepared.activations, signed=signed)


def write(graph: ir.Graph, scales: Mapping[str, Scale], uniform: Collection[ir.Node] = ()) -> None:
    quantise.apply(graph, linears(graph), scales, uniform)
