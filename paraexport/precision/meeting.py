"""Where the branches of a graph meet: the sum over them, and what each of them adds to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from paraexport.onnx_summary import BRANCH
from paraexport.rewrite.edit import readers, result
from paraexport.rewrite.sums import all_terms, ancestry, is_inner, is_sum


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

    A term that rests on nodes of one branch alone is of that branch; what rests on several is a skip around the sum.
    """
    found: list[Meeting] = []
    for node in graph:
        total = result(node) if is_sum(node) else None
        if total is None or (is_inner(total) and is_sum(readers(total)[0])):
            continue
        terms: dict[str, list[str]] = defaultdict(list)
        for term in all_terms(total):
            branches = {seen[1] for inner in ancestry(term) if (seen := BRANCH.search(inner.name or ""))}
            if len(branches) == 1:
                terms[f"branches.{branches.pop()}"].append(term.name or "")
        if len(terms) > 1:
            found.append(Meeting(total.name or "", {branch: tuple(names) for branch, names in terms.items()}))
    return max(found, key=lambda one: len(one.terms), default=None)
