"""Finds the sum over branches in a graph, and the terms that each branch adds to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.query import readers, result
from paraexport.graph.summary import BRANCH
from paraexport.precision.int8.linears import is_linear
from paraexport.rewrite.patterns.sums import all_terms, ancestry, is_inner, is_sum

Number = TypeVar("Number", np.float32, np.float64)


@dataclass(frozen=True)
class BranchTerms:
    """The sum over branches Σ_l y_l and its terms, as names of values."""

    total: str
    terms: Mapping[str, tuple[str, ...]]
    """Branch, as `branches.3` -> the values that it adds to the total."""

    @property
    def values(self) -> list[str]:
        """The total, then the terms of every branch."""
        return [self.total, *(name for names in self.terms.values() for name in names)]

    def by_branch(self, values: Sequence[NDArray[Number]]) -> dict[str, NDArray[Number]]:
        """Add up the terms of each branch. `values` are those of `self.values`, or their errors, in the same order."""
        terms = iter(values[1:])
        return {branch: np.sum([next(terms) for _ in names], axis=0) for branch, names in self.terms.items()}


def find_branch_terms(graph: ir.Graph) -> BranchTerms | None:
    """The sum that joins the most branches, found by the names of the nodes; None if no sum joins two.

    A term that depends on exactly one branch belongs to it. A term that depends on several is a skip around the sum.
    """
    sums: list[BranchTerms] = []
    for node in graph:
        total = result(node) if is_sum(node) else None
        if total is None or (is_inner(total) and is_sum(readers(total)[0])):
            continue
        terms: dict[str, list[str]] = defaultdict(list)
        for term in all_terms(total):
            branches = branches_of(term)
            if len(branches) == 1:
                terms[f"branches.{branches.pop()}"].append(term.name or "")
        if len(terms) > 1:
            sums.append(BranchTerms(total.name or "", {branch: tuple(names) for branch, names in terms.items()}))
    return max(sums, key=lambda candidate: len(candidate.terms), default=None)


def branches_of(term: ir.Value) -> set[str]:
    """The numbers of the branches that a value depends on: those of its products, or of other nodes if it has none.

    Products come first because a view of the tokens, such as a Transpose, is named after one branch but read by all.
    """
    nodes = ancestry(term)
    return branch_numbers(node for node in nodes if is_linear(node)) or branch_numbers(nodes)


def branch_numbers(nodes: Iterable[ir.Node]) -> set[str]:
    return {match[1] for node in nodes if (match := BRANCH.search(node.name or ""))}
