"""Gives new names in a graph that no other node or value has, subgraphs included.

A graph remembers its names between two edits. So a new name does not need a walk over the whole graph.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import onnx_ir as ir

NAMES = "paraexport.names"
"""Under this key, a graph keeps its names from the first new name of a pass until `clean`."""


class FreeNames:
    """Gives each name once: `MatMul`, `MatMul_1`, `MatMul_2`, …"""

    def __init__(self, taken: Iterable[str | None]) -> None:
        self.taken = set(taken)
        self.counts: dict[str, int] = {}
        """The last number that was added to each name."""

    def claim(self, wanted: str) -> str:
        """`wanted`, or a similar name that is free. From now on it is taken."""
        name = wanted
        while name in self.taken:
            self.counts[wanted] = self.counts.get(wanted, 0) + 1
            name = f"{wanted}_{self.counts[wanted]}"
        self.taken.add(name)
        return name


def names_in(graph: ir.Graph) -> set[str | None]:
    """Every name of a node, an input, a computed value or an initializer, subgraphs included."""
    names: set[str | None] = set()
    for scope in (graph, *graph.subgraphs()):
        names.update(value.name for value in scope.inputs)
        names.update(scope.initializers)
        for node in scope:
            names.add(node.name)
            names.update(value.name for value in node.outputs)
    return names


def claim(graph: ir.Graph, name: str) -> str:
    """`name`, or a similar name that is free in the graph. From now on it is taken."""
    names: FreeNames | None = graph.meta.get(NAMES)
    if names is None:
        names = graph.meta[NAMES] = FreeNames(names_in(graph))
    return names.claim(name)


def forget(graph: ir.Graph) -> None:
    """Make the next `claim` read the names of the graph again."""
    graph.meta.pop(NAMES, None)


def fresh(name: str, taken: Mapping[str, object] | set[str | None]) -> str:
    """`name`, or a similar name that is not in `taken`."""
    if name not in taken:
        return name
    return next(candidate for number in itertools.count(1) if (candidate := f"{name}_{number}") not in taken)
