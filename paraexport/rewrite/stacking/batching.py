"""One walk over tuples of values, one of each branch, that finds how to compute all of a tuple at once.

The walk ends where all branches read one value, or constants. Above that each tuple of nodes becomes one node, or a
few, by the rule of its operator in `batching_rules`; the graph is only read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from paraexport.graph.attributes import attribute
from paraexport.graph.naming import stacked_name
from paraexport.graph.query import const, result, weight_of
from paraexport.graph.refusal import Refused
from paraexport.graph.shapes import require_sizes
from paraexport.rewrite.stacking.views import Attributes, Constants, Plan, Shared, Sizes, Source, Stacked, Step, View

Tuple = tuple[ir.Value, ...]
"""One value of each branch."""


class At(Refused):
    """A refusal, and the node that it is about."""

    def __init__(self, node: ir.Node, reason: object) -> None:
        super().__init__(str(reason))
        self.node = node


class Place:
    """Where a rule is applied: the nodes that do the same in every branch."""

    def __init__(self, plan: Plan, nodes: Sequence[ir.Node]) -> None:
        self.plan, self.nodes = plan, nodes
        self.first = nodes[0]
        self.name = stacked_name([node.name for node in nodes], self.first.op_type)

    @property
    def sizes(self) -> Sizes:
        """Of the result in one branch."""
        return require_sizes(result(self.first))

    @property
    def dtype(self) -> ir.DataType | None:
        return result(self.first).dtype


Rule = Callable[[Place, list[View | None]], View]


class Batch:
    """What the walks over one group of branches have found."""

    def __init__(self, plan: Plan, rules: dict[str, Rule], *, deep: bool = True) -> None:
        self.plan, self.rules, self.deep = plan, rules, deep
        self.views: dict[Tuple, View] = {}
        self.merged: list[set[ir.Node]] = [set() for _ in range(plan.count)]
        """The nodes of each branch that are computed with those of the others."""

    @property
    def has_products(self) -> bool:
        return any(weight_of(node) is not None for node in self.merged[0])

    def view(self, values: Tuple) -> View:
        """How the tuple is computed; the walk keeps its own stack, for a deep graph.

        Raises:
            At: the rule of an operator does not hold, or there is none.
        """
        pending = [values]
        while pending:
            current = pending[-1]
            if current in self.views:
                pending.pop()
            elif (leaf := self.leaf(current)) is not None:
                self.views[current] = leaf
            else:
                sources = [source for source in inputs_of(current) if source is not None and source not in self.views]
                pending.extend(reversed(sources))
                if not sources:
                    self.views[current] = self.apply_rule(current)
        return self.views[values]

    def leaf(self, values: Tuple) -> View | None:
        arrays = tuple(array for value in values if (array := const(value)) is not None)
        if len(arrays) == len(values):
            same = all(value is values[0] for value in values)
            return Constants(values, arrays, same or all(np.array_equal(array, arrays[0]) for array in arrays))
        return Shared(values[0], require_sizes(values[0])) if all(value is values[0] for value in values) else None

    def apply_rule(self, values: Tuple) -> View:
        nodes = producers(values)
        inputs = [None if source is None else self.views[source] for source in inputs_of(values)]
        if all(view is None or is_same(view) for view in inputs):
            return Shared(values[0], require_sizes(values[0]))
        rule = self.rules.get(nodes[0].op_type) if nodes[0].domain in {"", "ai.onnx"} else None
        if rule is None:
            raise At(nodes[0], f"no rule says how to stack {nodes[0].op_type}")
        if len(nodes[0].outputs) > 1 and any(value.uses() for value in nodes[0].outputs[1:]):
            raise At(nodes[0], f"{nodes[0].op_type} has several outputs")
        try:
            view = rule(Place(self.plan, nodes), inputs)
        except Refused as refusal:
            raise At(nodes[0], refusal) from refusal
        for branch, node in zip(self.merged, nodes, strict=True):
            branch.add(node)
        return view


def producers(values: Tuple) -> list[ir.Node]:
    nodes = [node for value in values if (node := value.producer()) is not None]
    assert len(nodes) == len(values), "of values with one signature all are computed, or none is"
    return nodes


def inputs_of(values: Tuple) -> list[Tuple | None]:
    """The tuple of first inputs, of second inputs, …; None for an input that is not given."""
    tuples: list[Tuple | None] = []
    for sources in zip(*(node.inputs for node in producers(values)), strict=True):
        given = tuple(source for source in sources if source is not None)
        tuples.append(given or None)
    return tuples


def is_same(view: View) -> bool:
    """Whether every branch has the same numbers here."""
    return isinstance(view, Shared) or (isinstance(view, Constants) and view.equal)


def attributes_of(node: ir.Node) -> Attributes:
    return {name: attribute(node, name) for name in node.attributes}  # type: ignore[misc]


def stacked(place: Place, inputs: Sequence[Source | None], layout: int) -> Stacked:
    """The node itself, once for all branches, with a result of this layout."""
    shape, attributes = place.plan.shape(place.sizes, layout), attributes_of(place.first)
    step = Step(place.first.op_type, tuple(inputs), attributes, place.name, shape, place.dtype)
    return Stacked(step, place.sizes, layout)


def on_branches(place: Place, view: View | None) -> Stacked:
    """The view as one tensor of all branches, a shared value repeated."""
    if isinstance(view, Shared):
        return place.plan.expanded(view, place.name)
    if isinstance(view, Stacked):
        return view
    raise Refused("a constant where an activation is expected")


def parameters(views: Sequence[View | None]) -> list[Source | None]:
    """Inputs that must be the same for all branches, such as the axes of a Slice."""
    if not all(view is None or (isinstance(view, Constants) and view.equal) for view in views):
        raise Refused("its parameters differ between the branches, or are not constant")
    return [view.values[0] if isinstance(view, Constants) else None for view in views]
