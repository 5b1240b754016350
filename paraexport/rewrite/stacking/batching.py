"""Walks over alike branches in step, and finds new nodes that compute the same value of all branches at once.

The walk goes from the results back to values that all branches share, and to constants. The alike nodes of the branches
become one node, or a few, by the rule of their operator in `batching_rules`. The graph does not change here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from paraexport.graph.attributes import attribute
from paraexport.graph.naming import stacked_name
from paraexport.graph.query import const, result, weight_of
from paraexport.graph.refusal import Refused
from paraexport.graph.shapes import Sizes, require_sizes
from paraexport.rewrite.stacking.arrangements import (
    Attributes,
    BranchConstants,
    BranchTensor,
    NewNode,
    NodeInput,
    Shared,
    Stacked,
    StackingPlan,
)

BranchValues = tuple[ir.Value, ...]
"""One value of each branch."""


class RefusedAt(Refused):
    """A refusal, with the node that it is about."""

    def __init__(self, node: ir.Node, reason: object) -> None:
        super().__init__(str(reason))
        self.node = node


class NodeGroup:
    """The alike nodes of all branches, to which a rule is applied."""

    def __init__(self, plan: StackingPlan, nodes: Sequence[ir.Node]) -> None:
        self.plan, self.nodes = plan, nodes
        self.first = nodes[0]
        self.name = stacked_name([node.name for node in nodes], self.first.op_type)

    @property
    def sizes(self) -> Sizes:
        """The shape of the result in one branch."""
        return require_sizes(result(self.first))

    @property
    def dtype(self) -> ir.DataType | None:
        return result(self.first).dtype


Rule = Callable[[NodeGroup, list[BranchTensor | None]], BranchTensor]
"""(the nodes, their inputs) -> their results. Raises Refused if the operator cannot be computed for all branches."""


class StackingWalk:
    """The walk over one group of alike branches, with the values that it has stacked so far."""

    def __init__(self, plan: StackingPlan, rules: dict[str, Rule], *, deep: bool = True) -> None:
        self.plan, self.rules, self.deep = plan, rules, deep
        self.tensors: dict[BranchValues, BranchTensor] = {}
        self.merged: list[set[ir.Node]] = [set() for _ in range(plan.count)]
        """The nodes of each branch that are computed with those of the others."""

    @property
    def has_products(self) -> bool:
        return any(weight_of(node) is not None for node in self.merged[0])

    def tensor(self, values: BranchValues) -> BranchTensor:
        """One value of each branch, computed at once.

        The walk keeps its own stack: a deep graph would exceed Python's limit for recursion.

        Raises:
            RefusedAt: an operator has no rule, or its rule does not apply.
        """
        pending = [values]
        while pending:
            current = pending[-1]
            if current in self.tensors:
                pending.pop()
            elif (leaf := self.leaf(current)) is not None:
                self.tensors[current] = leaf
            else:
                sources = [source for source in inputs_of(current) if source is not None and source not in self.tensors]
                pending.extend(reversed(sources))
                if not sources:
                    self.tensors[current] = self.apply_rule(current)
        return self.tensors[values]

    def leaf(self, values: BranchValues) -> BranchTensor | None:
        """Constants, or one value that all branches share; None if nodes of the branches compute the values."""
        arrays = tuple(array for value in values if (array := const(value)) is not None)
        is_shared = all(value is values[0] for value in values)
        if len(arrays) == len(values):
            equal = is_shared or all(np.array_equal(array, arrays[0]) for array in arrays)
            return BranchConstants(values, arrays, equal)
        return Shared(values[0], require_sizes(values[0])) if is_shared else None

    def apply_rule(self, values: BranchValues) -> BranchTensor:
        nodes = producers(values)
        inputs = [None if source is None else self.tensors[source] for source in inputs_of(values)]
        if all(tensor is None or is_same(tensor) for tensor in inputs):
            return Shared(values[0], require_sizes(values[0]))
        rule = self.rules.get(nodes[0].op_type) if nodes[0].domain in {"", "ai.onnx"} else None
        if rule is None:
            raise RefusedAt(nodes[0], f"{nodes[0].op_type} cannot be stacked")
        if len(nodes[0].outputs) > 1 and any(value.uses() for value in nodes[0].outputs[1:]):
            raise RefusedAt(
                nodes[0], f"{nodes[0].op_type} has several outputs that are read; a rule for stacking expects one"
            )
        try:
            tensor = rule(NodeGroup(self.plan, nodes), inputs)
        except Refused as refusal:
            raise RefusedAt(nodes[0], refusal) from refusal
        for branch, node in zip(self.merged, nodes, strict=True):
            branch.add(node)
        return tensor


def producers(values: BranchValues) -> list[ir.Node]:
    """The node of each branch that computes its value."""
    nodes = [node for value in values if (node := value.producer()) is not None]
    assert len(nodes) == len(values), (
        "values with the same signature are either all computed by nodes, or none of them is"
    )
    return nodes


def inputs_of(values: BranchValues) -> list[BranchValues | None]:
    """The first inputs of the nodes in all branches, the second inputs, …; None for an input that is left out."""
    tuples: list[BranchValues | None] = []
    for sources in zip(*(node.inputs for node in producers(values)), strict=True):
        given = tuple(source for source in sources if source is not None)
        tuples.append(given or None)
    return tuples


def is_same(tensor: BranchTensor) -> bool:
    """Whether all branches have the same numbers."""
    return isinstance(tensor, Shared) or (isinstance(tensor, BranchConstants) and tensor.equal)


def attributes_of(node: ir.Node) -> Attributes:
    return {name: attribute(node, name) for name in node.attributes}  # type: ignore[misc]


def stacked(group: NodeGroup, inputs: Sequence[NodeInput | None], arrangement: int) -> Stacked:
    """The same operator, once for all branches. Its result has this arrangement."""
    shape, attributes = group.plan.shape(group.sizes, arrangement), attributes_of(group.first)
    node = NewNode(group.first.op_type, tuple(inputs), attributes, group.name, shape, group.dtype)
    return Stacked(node, group.sizes, arrangement)


def on_branches(group: NodeGroup, tensor: BranchTensor | None) -> Stacked:
    """The value of every branch in one tensor; a shared value is repeated.

    Raises:
        Refused: it is a constant.
    """
    if isinstance(tensor, Shared):
        return group.plan.expand(tensor, group.name)
    if isinstance(tensor, Stacked):
        return tensor
    raise Refused("its input is a constant; expected an activation")


def parameters(tensors: Sequence[BranchTensor | None]) -> list[NodeInput | None]:
    """Inputs that must be the same for all branches, such as the axes of a Slice.

    Raises:
        Refused: they differ, or are not constant.
    """
    if not all(tensor is None or (isinstance(tensor, BranchConstants) and tensor.equal) for tensor in tensors):
        raise Refused("its parameters, such as axes or limits, must be constants that are the same in all branches")
    return [tensor.values[0] if isinstance(tensor, BranchConstants) else None for tensor in tensors]
