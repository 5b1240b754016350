"""Parts of a graph: what each reads of the others, and what it gives to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from paraexport.checks.bisection.values import Form
from paraexport.graph.query import operands
from paraexport.rewrite.patterns.sums import ancestry


@dataclass(frozen=True, eq=False)
class Part:
    """Some nodes of a graph as a graph of their own.

    What lies between them and the values that they are given, such as the integers of a quantised activation, is
    computed again in it.
    """

    name: str
    nodes: frozenset[ir.Node]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    """The values that other parts, or the user of the graph, read."""


def cut(graph: ir.Graph, labels: Mapping[ir.Node, str], forms: Mapping[str, Form]) -> list[Part]:
    """The nodes of each label, in order; what gives nothing to the others by itself is no part."""
    groups: dict[str, list[ir.Node]] = {}
    for node in graph:
        groups.setdefault(labels[node], []).append(node)
    inputs = {name: inputs_of(nodes, forms) for name, nodes in groups.items()}
    asked = {value.name for value in graph.outputs}
    found = []
    for name, nodes in groups.items():
        read = asked.union(*(given for other, given in inputs.items() if other != name))
        outputs = tuple(value.name or "" for node in nodes for value in node.outputs if value.name in read)
        if outputs:
            found.append(Part(name, frozenset(nodes), inputs[name], outputs))
    return found


def up_to(graph: ir.Graph, part: Part, forms: Mapping[str, Form]) -> Part:
    """The part with all that is before it, from the images on."""
    ends = [value for node in part.nodes for value in node.outputs if value.name in part.outputs]
    nodes = set().union(*(ancestry(value) for value in ends))
    ordered = [node for node in graph if node in nodes]
    return Part(f"from the images to {part.name}", frozenset(nodes), inputs_of(ordered, forms), part.outputs)


def inputs_of(nodes: Collection[ir.Node], forms: Mapping[str, Form]) -> tuple[str, ...]:
    """The values that the graph can be cut at, and that these nodes rest on, in the order of reading."""
    inside = set(nodes)
    found: dict[str, None] = {}
    pending = [*nodes]
    while pending:
        node = pending.pop(0)
        for value in operands(node):
            maker = value.producer()
            if maker in inside or value.is_initializer():
                continue
            if (name := value.name or "") in forms:
                found[name] = None
            elif maker is not None:
                inside.add(maker)
                pending.append(maker)
    return tuple(found)
