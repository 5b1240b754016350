"""Records where the weights and the multiply-adds of a graph are, before and after the rewrites."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """The cost of one part of a graph, or of all nodes of one operator, for one image."""

    name: str
    """`stem`, `branch 3`, `merged branches`, `sum and head`; or an operator such as `MatMul`."""
    nodes: int
    multiply_adds: int | None
    """None if a shape is not known."""
    weights_bytes: int
    """Of constants. A constant with several readers counts once."""


@dataclass(frozen=True)
class GraphCost:
    """The cost of a graph for one image, divided in two ways."""

    parts: tuple[Cost, ...]
    """In the order of the data."""
    operators: tuple[Cost, ...]
    """Those with multiply-adds or weights, the largest first."""

    @property
    def total(self) -> Cost:
        counts = [part.multiply_adds for part in self.parts]
        known = [count for count in counts if count is not None]
        return Cost(
            "all",
            sum(part.nodes for part in self.parts),
            sum(known) if len(known) == len(counts) else None,
            sum(part.weights_bytes for part in self.parts),
        )


@dataclass(frozen=True)
class CostReport:
    """The traced graph, and the graph in the bundle."""

    traced: GraphCost
    final: GraphCost


def saved_share(before: int | None, after: int | None) -> float | None:
    """The share that was saved, 0 to 1; negative if there is more than before; None if a count is not known."""
    return None if before is None or after is None or not before else 1 - after / before
