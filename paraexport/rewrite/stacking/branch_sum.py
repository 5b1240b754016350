"""Writes the sum over stacked branches, term by term: Σ_l (a_l + b_l) = Σ_l a_l + Σ_l b_l."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.naming import beside, stacked_name
from paraexport.graph.query import read_once, weight_of
from paraexport.graph.refusal import Refused
from paraexport.graph.shapes import require_sizes
from paraexport.rewrite.patterns.sums import added, is_inner, terms_of
from paraexport.rewrite.stacking.arrangements import (
    FULL,
    BranchConstants,
    BranchTensor,
    NewConstant,
    NewNode,
    NodeInput,
    Shared,
    Stacked,
)
from paraexport.rewrite.stacking.batching import BranchValues, RefusedAt, StackingWalk, inputs_of, producers

Array = NDArray[Any]


class BranchSum:
    """The sum of one value of each branch, as a list of terms.

    A branch may end in sums of its own. Their terms are summed over the branches one by one, so that each can take its
    best form: a product by constants, a constant, or something else.

    Raises:
        RefusedAt: an operator cannot be computed for all branches at once.
    """

    def __init__(self, walk: StackingWalk, leaves: BranchValues) -> None:
        self.walk, self.plan, self.leaves = walk, walk.plan, leaves
        self.inner: list[BranchValues] = []
        """The sums at the ends of the branches. They are split into their terms."""
        self.terms: list[NodeInput] = []
        constants: list[Array] = []
        pending = [leaves]
        while pending:
            values = pending.pop()
            if all(is_inner(value) for value in values):
                self.inner.append(values)
                pending.extend(reversed([*zip(*(terms_of(value) for value in values), strict=True)]))
                continue
            try:
                term = self.term(values)
            except RefusedAt:
                raise
            except Refused as refusal:
                raise RefusedAt(self.nodes(values)[0], refusal) from refusal
            if isinstance(term, np.ndarray):
                constants.append(term)
            else:
                self.terms.append(term)
        if constants:
            self.add_constant(added(constants))

    def term(self, values: BranchValues) -> NodeInput | Array:
        """Σ_l of one term of each branch; an array if the terms are constants."""
        if self.walk.deep and all(read_once(value) and weight_of(value.producer()) is not None for value in values):
            sources = inputs_of(values)[0]
            assert sources is not None
            for branch, node in zip(self.walk.merged, producers(values), strict=True):
                branch.add(node)
            return self.deep_product(values, self.walk.tensor(sources))
        tensor = self.walk.tensor(values)
        if isinstance(tensor, BranchConstants):
            return added(tensor.arrays)
        return self.total(values, tensor)

    def deep_product(self, values: BranchValues, tensor: BranchTensor) -> NewNode:
        """Σ_l h_l W_l = [h_1 | … | h_L] [W_1; …; W_L], or x Σ_l W_l if all h_l are the same x."""
        weights = [weight for node in producers(values) if (weight := weight_of(node)) is not None]
        name = self.name(values, "MatMul")
        if isinstance(tensor, Shared):
            source, stacked = tensor.source, NewConstant(added(weights), beside(name, "weight"))
        else:
            assert isinstance(tensor, Stacked)
            source = self.plan.arranged(tensor, len(tensor.sizes) - 1).source
            stacked = self.plan.weight(weights, 0, beside(name, "weight"))
        return NewNode("MatMul", (source, stacked), {}, name, require_sizes(values[0]), values[0].dtype)

    def total(self, values: BranchValues, tensor: Shared | Stacked) -> NewNode:
        """The sum over the branches, in any arrangement; L times a shared value."""
        sizes, count = tensor.sizes, self.plan.count
        if isinstance(tensor, Shared):
            dtype = values[0].dtype
            assert dtype is not None
            factor = NewConstant(np.asarray(count, dtype.numpy()), self.name(values, "count"))
            return NewNode("Mul", (tensor.source, factor), {}, self.name(values, "Mul"), sizes, dtype)
        name, near = self.name(values, "ReduceSum"), tensor.source.name
        axes = NewConstant(np.asarray([1 if tensor.arrangement > 0 else 0], np.int64), beside(name, "axes"))
        if tensor.arrangement <= 0:
            whole = self.plan.arranged(tensor, FULL).source
            return NewNode("ReduceSum", (whole, axes), {"keepdims": 0}, name, sizes, values[0].dtype)
        # L is inside axis a: [rows, L, rest] makes it an axis of its own, which ReduceSum removes.
        rows, rest = self.plan.counts_around(sizes, tensor.arrangement)
        separate = self.plan.reshape(tensor.source, [-1, count, rest], (rows, count, rest), near)
        summed = NewNode("ReduceSum", (separate, axes), {"keepdims": 0}, name, (rows, rest), values[0].dtype)
        return self.plan.reshape(summed, [-1, *self.plan.target(sizes, FULL)[2:]], sizes, name)

    def add_constant(self, constant: Array) -> None:
        """Add a constant as the bias of the last product, or as a term if there is no product."""
        name = beside(self.name(self.leaves, "Add"), "bias")
        bias = NewConstant(constant, name)
        products = [term for term in self.terms if isinstance(term, NewNode) and term.op_type == "MatMul"]
        if not products:
            self.terms.append(bias)
            return
        last = products[-1]
        self.terms[self.terms.index(last)] = NewNode(
            "Add", (last, bias), {}, beside(last.name, "Add"), last.shape, last.dtype
        )

    def name(self, values: BranchValues, last: str) -> str:
        return beside(stacked_name([node.name for node in self.nodes(values)], last), last)

    def nodes(self, values: BranchValues) -> list[ir.Node]:
        """The nodes that compute these values. For graph inputs, the last nodes of the branches."""
        return producers(values if values[0].producer() is not None else self.leaves)
