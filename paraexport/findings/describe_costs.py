"""Writes costs as sections: what the rewrites saved, and where weights and multiply-adds are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from paraexport.findings.costs import Cost, CostReport, saved_share
from paraexport.findings.document import Cell, Line, Section, Table, count
from paraexport.findings.words import count_text, counted, size_text

UNKNOWN = "multiply-adds are not known, because shape inference does not know some operators"


def savings(report: CostReport | None) -> Iterator[Section]:
    """Compare the traced graph with the one in the bundle, in a few lines."""
    if report is None:
        return
    before, after = report.traced.total, report.final.total
    work = f"{count_text(after.multiply_adds)} multiply-adds" if after.multiply_adds is not None else UNKNOWN
    saved = change(before.multiply_adds, after.multiply_adds, "fewer", "more")
    weights = change(before.weights_bytes, after.weights_bytes, "smaller", "larger")
    yield Section(
        "Work for one image",
        (
            Line(f"{work}; as traced {count_text(before.multiply_adds)}{saved}"),
            Line(f"{size_text(after.weights_bytes)} of weights; as traced {size_text(before.weights_bytes)}{weights}"),
            Line(f"{counted(after.nodes, 'node')}; as traced {before.nodes:,}"),
        ),
    )


def change(before: int | None, after: int | None, less: str, more: str) -> str:
    """`: 46.5 % fewer`; empty if nothing changed by a tenth of a percent, or a count is not known."""
    share = saved_share(before, after)
    if share is None or abs(share) < 0.001:
        return ""
    return f": {abs(100 * share):.1f} % {less if share > 0 else more}"


def distribution(report: CostReport | None) -> Iterator[Section]:
    """List the cost of each part and operator, in the traced graph and in the bundle."""
    if report is None:
        return
    yield divided("By part of the model", "part", report.traced.parts, report.final.parts)
    yield divided("By operator", "operator", report.traced.operators, report.final.operators)


def divided(title: str, head: str, before: Sequence[Cost], after: Sequence[Cost]) -> Section:
    traced, final = ({entry.name: entry for entry in side} for side in (before, after))
    names = [*final, *(name for name, entry in traced.items() if name not in final and entry.multiply_adds != 0)]
    most_work = max([1, *(entry.multiply_adds or 0 for entry in (*before, *after))])
    most_bytes = max([1, *(entry.weights_bytes for entry in (*before, *after))])
    rows = tuple(
        (
            Cell(name),
            Cell(count_text(old.multiply_adds), is_number=True),
            Cell(count_text(new.multiply_adds), is_number=True),
            Cell("", bar=(new.multiply_adds or 0) / most_work),
            Cell(size_text(new.weights_bytes), is_number=True),
            Cell("", bar=new.weights_bytes / most_bytes),
            count(new.nodes),
        )
        for name in names
        for old, new in [(traced.get(name, Cost(name, 0, 0, 0)), final.get(name, Cost(name, 0, 0, 0)))]
    )
    columns = (head, "multiply-adds, traced", "in the bundle", "", "weights", "", "nodes")
    return Section(title, (Table(columns, rows),))
