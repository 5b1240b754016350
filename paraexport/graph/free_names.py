"""New names in a graph: each is free, in subgraphs too, and finding that out does not take a walk for each of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import onnx_ir as ir

TAKEN = "paraexport.names"
"""Under this key a graph keeps its names from the first new name of a pass until `clean`."""


def names_in(graph: ir.Graph) -> set[str | None]:
    """Every name of a node, an input, a computed value or an initializer, those of subgraphs included."""
    names: set[str | None] = set()
    for one in (graph, *graph.subgraphs()):
        names.update(value.name for value in one.inputs)
        names.update(one.initializers)
        for node in one:
            names.add(node.name)
            names.update(value.name for value in node.outputs)
    return names


def claim(graph: ir.Graph, name: str) -> str:
    """`name`, or a name like it that is free in the graph; it is taken from now on."""
    taken: set[str | None] | None = graph.meta.get(TAKEN)
    if taken is None:
        taken = graph.meta[TAKEN] = names_in(graph)
    free = fresh(name, taken)
    taken.add(free)
    return free


def forget(graph: ir.Graph) -> None:
    """Look at the names of the graph anew before the next one is given."""
    graph.meta.pop(TAKEN, None)


def fresh(name: str, taken: Mapping[str, object] | set[str | None]) -> str:
    if name not in taken:
        return name
    return next(candidate for number in itertools.count(1) if (candidate := f"{name}_{number}") not in taken)
