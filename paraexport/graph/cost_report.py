"""Finds where the weights and the multiply-adds of a graph are: by part of the model, and by operator."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import onnx_ir as ir

from paraexport.findings.costs import Cost, CostReport, GraphCost
from paraexport.graph.cost import branch_label, constant_label, multiply_adds_by_node, sum_if_known
from paraexport.graph.onnx_file import load
from paraexport.graph.query import readers
from paraexport.graph.summary import MERGED, SHARED
from paraexport.model.spec import BATCH

STEM, HEAD = "stem", "sum and head"
PASSED_THROUGH = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast", "Reshape", "Transpose", "Identity"})
"""Weights that go through these operators count for the operator behind them."""


def cost_report(traced: Path, final: Path) -> CostReport:
    """Compare the traced graph with the graph of the bundle. The weights of both are not read."""
    return CostReport(graph_cost(load(traced).graph), graph_cost(load(final).graph))


def graph_cost(graph: ir.Graph) -> GraphCost:
    """Divide the nodes and constants of a graph by part, and by operator."""
    name_batches(graph)
    after = below_branches(graph)
    by_part: dict[str, list[tuple[int | None, int]]] = defaultdict(list)
    by_operator: dict[str, list[tuple[int | None, int]]] = defaultdict(list)
    for node, multiply_adds in multiply_adds_by_node(graph):
        by_part[part_of(branch_label(node.name), node in after)].append((multiply_adds, 0))
        by_operator[node.op_type].append((multiply_adds, 0))
    weights_by_part: dict[str, int] = defaultdict(int)
    weights_by_operator: dict[str, int] = defaultdict(int)
    for value in graph.initializers.values():
        size = value.const_value.nbytes if value.const_value is not None else 0
        reader = reader_of(value)
        weights_by_part[part_of(constant_label(value), reader in after)] += size
        if reader is not None:
            weights_by_operator[reader.op_type] += size
    parts = sorted(by_part.keys() | weights_by_part.keys(), key=place)
    operators = [cost(name, by_operator[name], weights_by_operator[name]) for name in by_operator]
    return GraphCost(
        tuple(cost(name, by_part[name], weights_by_part[name]) for name in parts),
        tuple(
            sorted(filter(matters, operators), key=lambda entry: (-(entry.multiply_adds or 0), -entry.weights_bytes))
        ),
    )


def name_batches(graph: ir.Graph) -> None:
    """Name the free first axis after operators of ONNX Runtime's own domain: shape inference knows only standard ones.

    In the graph of a bundle, the batch is the only free axis.
    """
    for node in graph:
        for value in node.outputs if node.domain == "com.microsoft" else ():
            if value.shape and not isinstance(value.shape[0], int):
                value.shape = ir.Shape([BATCH, *value.shape[1:]])


def cost(name: str, nodes: list[tuple[int | None, int]], weights_bytes: int) -> Cost:
    return Cost(name, len(nodes), sum_if_known(count for count, _ in nodes), weights_bytes)


def matters(entry: Cost) -> bool:
    return entry.multiply_adds != 0 or entry.weights_bytes > 0


def below_branches(graph: ir.Graph) -> set[ir.Node]:
    """The nodes that need the result of a branch; branches themselves included."""
    after: set[ir.Node] = set()
    for node in graph:
        produced = (value.producer() for value in node.inputs if value is not None)
        if branch_label(node.name) != SHARED or any(producer in after for producer in produced):
            after.add(node)
    return after


def part_of(label: str, is_after: bool) -> str:
    """Divide the shared nodes into those before the branches and those after them."""
    if label != SHARED:
        return label
    return HEAD if is_after else STEM


def place(part: str) -> tuple[int, int, str]:
    """A key that sorts parts in the order of the data, and branches by their number."""
    return ({STEM: 0, MERGED: 2, HEAD: 3}.get(part, 1), len(part), part)


def reader_of(value: ir.Value) -> ir.Node | None:
    """The first node that computes with a constant."""
    reader = next(iter(readers(value)), None)
    while reader is not None and reader.op_type in PASSED_THROUGH and reader.outputs:
        following = next(iter(readers(reader.outputs[0])), None)
        if following is None:
            return reader
        reader = following
    return reader
