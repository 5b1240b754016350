"""The sum over branches that are computed together, term by term."""

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
from paraexport.rewrite.stacking.batching import At, Batch, Tuple, inputs_of, producers
from paraexport.rewrite.stacking.views import FULL, Constants, Shared, Source, Stacked, Step, View, Weight

Array = NDArray[Any]


class BranchSum:
    """Σ_l of one value of each branch, as the terms that add up to it.

    Raises:
        At: an operator cannot be computed for all branches at once.
    """

    def __init__(self, batch: Batch, leaves: Tuple) -> None:
        self.batch, self.plan, self.leaves = batch, batch.plan, leaves
        self.inner: list[Tuple] = []
        """The sums in which the branches end, which are taken apart."""
        self.terms: list[Source] = []
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
            except At:
                raise
            except Refused as refusal:
                raise At(self.nodes(values)[0], refusal) from refusal
            if isinstance(term, np.ndarray):
                constants.append(term)
            else:
                self.terms.append(term)
        if constants:
            self.add_constant(added(constants))

    def term(self, values: Tuple) -> Source | Array:
        if self.batch.deep and all(read_once(value) and weight_of(value.producer()) is not None for value in values):
            sources = inputs_of(values)[0]
            assert sources is not None
            for branch, node in zip(self.batch.merged, producers(values), strict=True):
                branch.add(node)
            return self.deep_product(values, self.batch.view(sources))
        view = self.batch.view(values)
        if isinstance(view, Constants):
            return added(view.arrays)
        return self.total(values, view)

    def deep_product(self, values: Tuple, view: View) -> Step:
        """Σ_l h_l W_l as [h_1 | … | h_L] [W_1; …; W_L]; x Σ_l W_l where all h_l are x."""
        weights = [weight for node in producers(values) if (weight := weight_of(node)) is not None]
        name = self.name(values, "MatMul")
        if isinstance(view, Shared):
            source, stacked = view.source, Weight(added(weights), beside(name, "weight"))
        else:
            assert isinstance(view, Stacked)
            source = self.plan.laid_out(view, len(view.sizes) - 1).source
            stacked = self.plan.weight(weights, 0, beside(name, "weight"))
        return Step("MatMul", (source, stacked), {}, name, require_sizes(values[0]), values[0].dtype)

    def total(self, values: Tuple, view: Shared | Stacked) -> Step:
        """The sum over the branch axis, wherever it is; L times a shared value."""
        sizes, count = view.sizes, self.plan.count
        if isinstance(view, Shared):
            dtype = values[0].dtype
            assert dtype is not None
            factor = Weight(np.asarray(count, dtype.numpy()), self.name(values, "count"))
            return Step("Mul", (view.source, factor), {}, self.name(values, "Mul"), sizes, dtype)
        name, near = self.name(values, "ReduceSum"), view.source.name
        axes = Weight(np.asarray([1 if view.layout > 0 else 0], np.int64), beside(name, "axes"))
        if view.layout <= 0:
            whole = self.plan.laid_out(view, FULL).source
            return Step("ReduceSum", (whole, axes), {"keepdims": 0}, name, sizes, values[0].dtype)
        rows, rest = self.plan.around(sizes, view.layout)
        apart = self.plan.reshape(view.source, [-1, count, rest], (rows, count, rest), near)
        summed = Step("ReduceSum", (apart, axes), {"keepdims": 0}, name, (rows, rest), values[0].dtype)
        return self.plan.reshape(summed, [-1, *self.plan.target(sizes, FULL)[2:]], sizes, name)

    def add_constant(self, constant: Array) -> None:
        """To the last product, as its bias; without one it is a term of its own."""
        name = beside(self.name(self.leaves, "Add"), "bias")
        bias = Weight(constant, name)
        products = [term for term in self.terms if isinstance(term, Step) and term.op_type == "MatMul"]
        if not products:
            self.terms.append(bias)
            return
        last = products[-1]
        added = Step("Add", (last, bias), {}, beside(last.name, "Add"), last.shape, last.dtype)
        self.terms[self.terms.index(last)] = added

    def name(self, values: Tuple, last: str) -> str:
        return beside(stacked_name([node.name for node in self.nodes(values)], last), last)

    def nodes(self, values: Tuple) -> list[ir.Node]:
        """The nodes that compute these values, or, of inputs of the graph, the nodes that the branches end in."""
        return producers(values if values[0].producer() is not None else self.leaves)
