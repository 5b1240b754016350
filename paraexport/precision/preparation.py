"""Prepares a layout for lower precision: writes its graph in opset 20, and selects the products to lower."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from paraexport.errors import TraceError
from paraexport.findings.graphs import Rewrite
from paraexport.graph.cost import multiply_adds_by_node
from paraexport.graph.onnx_file import load
from paraexport.graph.query import const, is_op, operands
from paraexport.graph.refusal import Applied
from paraexport.precision.int8 import for_onnxruntime
from paraexport.precision.int8.linears import linears
from paraexport.rewrite import applied, low_precision_steps
from paraexport.rewrite.canonical import gemm
from paraexport.rewrite.passes import lower, tidy


@dataclass(frozen=True)
class Prepared:
    """A float32 graph of opset 20, ready to be lowered."""

    model: ir.Model
    rewrites: tuple[Rewrite, ...]
    products: Mapping[str, int]
    """The products to lower: node name -> multiply-adds for one image."""
    costs: Mapping[str, int]
    """The same for every product with a constant."""

    @property
    def linear_multiply_adds(self) -> int:
        return sum(self.costs.values())

    @property
    def activations(self) -> list[str]:
        """The names of the values that the products to lower read."""
        return list(dict.fromkeys(operands(node)[0].name or "" for node in linears(self.model.graph)))


def prepare(
    traced: Path, layout: str, kept: Iterable[str], *, equalised: bool, own_operators: bool = False
) -> Prepared:
    """The traced graph in a layout, with the parts `kept` marked to stay in float32.

    With `own_operators` each attention becomes one operator of ONNX Runtime; otherwise it is written out.

    Raises:
        TraceError: the graph has an operator that opset 20 lacks.
    """
    model = load(traced)
    passes = [*applied(model, low_precision_steps(layout, kept, equalised=equalised))]
    if not linears(model.graph):
        passes.append(gemm.apply(model.graph))  # a module without tokens has Gemm nodes only
    # Count before fusing: operators of a runtime have no shape inference.
    costs = {
        node.name or "": count or 0 for node, count in multiply_adds_by_node(model.graph) if multiplies_constant(node)
    }
    if own_operators:
        passes.append(for_onnxruntime.attention(model.graph))
    passes.append(lower.apply(model))
    tidy.apply(model.graph)
    if refusals := passes[-1].refusals:
        raise TraceError(f"the graph cannot be written in opset {lower.OPSET}", got=refusals[0])
    products = {node.name or "": costs[node.name or ""] for node in linears(model.graph)}
    return Prepared(model, tuple(map(as_rewrite, passes)), products, costs)


def as_rewrite(done: Applied) -> Rewrite:
    return Rewrite(done.name, done.times, tuple(done.refusals))


def multiplies_constant(node: ir.Node) -> bool:
    return is_op(node, "MatMul", "Gemm", "Conv") and any(const(value) is not None for value in operands(node)[:2])
