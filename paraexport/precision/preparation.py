"""A layout whose precision is about to be lowered: its graph in opset 20, and the products in it that may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from paraexport.errors import TraceError
from paraexport.findings.graphs import Rewrite
from paraexport.graph.cost import by_node
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
    model = load(traced)
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
