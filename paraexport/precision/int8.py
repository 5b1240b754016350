"""A layout in int8: the graph prepared for it, the scales of what its products read, and Q/DQ around each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from paraexport.errors import TraceError
from paraexport.precision import for_onnxruntime, for_openvino, quantise
from paraexport.precision.calibration import Calibration
from paraexport.precision.calibrators import Scale
from paraexport.precision.linears import linears
from paraexport.records import Rewrite
from paraexport.rewrite import applied, low_precision_steps, lower, tidy
from paraexport.rewrite.canonical import gemm
from paraexport.rewrite.cost import by_node
from paraexport.rewrite.edit import Applied, const, is_op, operands
from paraexport.targets import Dialect


@dataclass(frozen=True)
class Prepared:
    """A float32 graph of opset 20 that is about to be lowered."""

    model: ir.Model
    rewrites: tuple[Rewrite, ...]
    products: Mapping[str, int]
    """Multiply-adds of one image, by name, of each product to be lowered."""
    costs: Mapping[str, int]
    """The same of every product by a constant."""

    @property
    def linear_multiply_adds(self) -> int:
        return sum(self.costs.values())

    @property
    def activations(self) -> list[str]:
        """The names of the values that products to be lowered read."""
        return list(dict.fromkeys(operands(node)[0].name or "" for node in linears(self.model.graph)))


def prepare(
    traced: Path, layout: str, kept: Iterable[str], *, equalised: bool, own_operators: bool = False
) -> Prepared:
    """The traced graph in a layout, with the parts `kept` in float32 marked, attention written out or fused.

    Raises:
        TraceError: the graph has an operator that opset 20 lacks.
    """
    model = ir.load(traced)
    done = [*applied(model, low_precision_steps(layout, kept, equalised=equalised))]
    if not linears(model.graph):
        done.append(gemm.apply(model.graph))  # all that a module without tokens has
    # Before shapes are lost in operators of a runtime's own.
    costs = {node.name or "": count or 0 for node, count in by_node(model.graph) if multiplies_constant(node)}
    if own_operators:
        done.append(for_onnxruntime.attention(model.graph))
    if refusals := lowered_opset(model, done).refusals:
        raise TraceError(f"the graph cannot be written in opset {lower.OPSET}", got=refusals[0])
    chosen = {node.name or "": costs[node.name or ""] for node in linears(model.graph)}
    rewrites = tuple(Rewrite(one.name, one.times, tuple(one.refusals)) for one in done)
    return Prepared(model, rewrites, chosen, costs)


def lowered_opset(model: ir.Model, done: list[Applied]) -> Applied:
    found = lower.apply(model)
    done.append(found)
    tidy.apply(model.graph)
    return found


def multiplies_constant(node: ir.Node) -> bool:
    return is_op(node, "MatMul", "Gemm", "Conv") and any(const(value) is not None for value in operands(node)[:2])


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
