"""Cuts a graph into parts, each with the values that it reads from the others and gives to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from paraexport.checks.bisection.values import Form
from paraexport.graph.query import operands
from paraexport.rewrite.patterns.sums import ancestry


@dataclass(frozen=True, eq=False)
class Part:
    """Some nodes of a graph that can run alone.

    A graph can only be cut at some values. Nodes between such a value and the part, for instance those that quantise an
    activation, are computed again in the part.
    """

    name: str
    nodes: frozenset[ir.Node]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    """The values that other parts read, and outputs of the graph."""


def cut(graph: ir.Graph, labels: Mapping[ir.Node, str], forms: Mapping[str, Form]) -> list[Part]:
    """One part for each label, in order. Nodes whose values no other part reads are not a part."""
    groups: dict[str, list[ir.Node]] = {}
    for node in graph:
        groups.setdefault(labels[node], []).append(node)
    inputs = {name: inputs_of(nodes, forms) for name, nodes in groups.items()}
    graph_outputs = {value.name for value in graph.outputs}
    parts = []
    for name, nodes in groups.items():
        read = graph_outputs.union(*(names for reader, names in inputs.items() if reader != name))
        outputs = tuple(value.name or "" for node in nodes for value in node.outputs if value.name in read)
        if outputs:
            parts.append(Part(name, frozenset(nodes), inputs[name], outputs))
    return parts


def up_to(graph: ir.Graph, part: Part, forms: Mapping[str, Form]) -> Part:
    """The part together with everything before it, from the images on."""
    ends = [value for node in part.nodes for value in node.outputs if value.name in part.outputs]
    nodes = set().union(*(ancestry(value) for value in ends))
    ordered = [node for node in graph if node in nodes]
    return Part(f"from the images to {part.name}", frozenset(nodes), inputs_of(ordered, forms), part.outputs)


def inputs_of(nodes: Collection[ir.Node], forms: Mapping[str, Form]) -> tuple[str, ...]:
    """The nearest values before these nodes at which the graph can be cut, in the order in which they are read."""
    inside = set(nodes)
    inputs: dict[str, None] = {}  # a set that keeps its order
    pending = [*nodes]
    while pending:
        node = pending.pop(0)
        for value in operands(node):
            maker = value.producer()
            if maker in inside or value.is_initializer():
                continue
            if (name := value.name or "") in forms:
                inputs[name] = None
            elif maker is not None:
                inside.add(maker)
                pending.append(maker)
    return tuple(inputs)
