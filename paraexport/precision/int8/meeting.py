"""Where the branches of a graph meet: the sum over them, and what each of them adds to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from paraexport.graph.query import readers, result
from paraexport.graph.summary import BRANCH
from paraexport.precision.int8.linears import is_linear
from paraexport.rewrite.patterns.sums import all_terms, ancestry, is_inner, is_sum


@dataclass(frozen=True)
class Meeting:
    """Σ_l y_l, by the names of the values."""

    total: str
    terms: Mapping[str, tuple[str, ...]]
    """By branch, `branches.3`: the values that add up to what it adds to the total."""

    @property
    def values(self) -> list[str]:
        """The total, then the terms of every branch."""
        return [self.total, *(name for names in self.terms.values() for name in names)]


def meeting_of(graph: ir.Graph) -> Meeting | None:
    """The sum in which the most branches meet, told by the names of the nodes; None where no two do.

    A term that rests on one branch alone is of that branch; what rests on several is a skip around the sum.
    """
    found: list[Meeting] = []
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
            found.append(Meeting(total.name or "", {branch: tuple(names) for branch, names in terms.items()}))
    return max(found, key=lambda one: len(one.terms), default=None)


def branches_of(term: ir.Value) -> set[str]:
    """The numbers of the branches whose products a value rests on, or whose other nodes where it rests on no product.

    A view of the tokens that all branches read, as a Transpose, is named after one of them.
    """
    nodes = ancestry(term)
    return numbers(node for node in nodes if is_linear(node)) or numbers(nodes)


def numbers(nodes: Iterable[ir.Node]) -> set[str]:
    return {seen[1] for node in nodes if (seen := BRANCH.search(node.name or ""))}
