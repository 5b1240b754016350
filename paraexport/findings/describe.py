"""Findings as sections for people: checks, accuracy, rewrites, precision, candidates, assumptions and bisections."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from paraexport.findings.assumptions import Assumption
from paraexport.findings.bisection import Bisection, PartDifference
from paraexport.findings.checks import Accuracy, Check
from paraexport.findings.document import Block, Cell, Line, Section, Table, Tone, count, lines, number
from paraexport.findings.graphs import CandidateTimes, Lowering, PartError, Rewrite
from paraexport.findings.words import counted

NAMES = re.compile(r"[^\s,;]*[\d/_][^\s,;]*")
"""Words that are no English: names of nodes and values, and numbers."""
MOST_PARTS = 4
"""Parts with the largest error that a terminal shows; the report has all."""
MOVED = "moved"
"""How the reason of a limit begins that the user set."""


def checks(results: Sequence[Check], evidence: str = "") -> Section:
    """Each check with its verdict; a terminal shows the reason only of one that did not pass or was moved."""
    head = ("check", "verdict", "value", "limit", "unit", "samples", "note")
    table = Table(head, tuple(map(check_row, results)))
    return Section(f"Checks on {evidence}" if evidence else "Checks", (table,))


def check_row(check: Check) -> tuple[Cell, ...]:
    tone: Tone = {True: "good", False: "bad", None: "note"}[check.passed]  # type: ignore[assignment]
    verdict = "FAILED" if check.passed is False else check.verdict
    is_plain = check.passed and not check.reason.startswith(MOVED)
    note = Cell(check.reason, brief="" if is_plain else None)
    return (
        Cell(check.name), Cell(verdict, tone), number(check.value), Cell(f"{check.limit:g}", is_number=True),
        Cell(check.unit), count(check.samples), note,
    )  # fmt: skip


def accuracy(result: Accuracy | None) -> Iterator[Section]:
    """Top-1 in PyTorch and of the bundle; nothing without labels."""
    if result is None:
        return
    sides = [
        f"{100 * correct / result.images:.2f} % ({correct} of {result.images}) {where}"
        for correct, where in ((result.pytorch_correct, "in PyTorch"), (result.engine_correct, "here"))
        if correct is not None
    ]
    yield Section("Accuracy", (Line(f"top-1: {', '.join(sides)}"),))


def rewrites(passes: Sequence[Rewrite], *, refusals: bool) -> Iterator[Section]:
    """What each pass did, and, with `refusals`, where it nearly applied."""
    if not passes:
        return
    applied = [f"{one.name} {one.times}×" for one in passes if one.times]
    blocks: list[Block] = [Line(f"applied: {', '.join(applied) or 'nothing'}")]
    if refusals:
        blocks += refused((one.name, one.refusals) for one in passes)
    yield Section("Rewrites", tuple(blocks))


def refused(passes: Iterable[tuple[str, Sequence[str]]]) -> Iterator[Block]:
    """What each pass refused: one row for all refusals whose reasons differ in names and numbers only."""
    rows = [(name, *group) for name, refusals in passes for group in grouped(refusals)]
    if rows:
        yield Line("not rewritten:")
        yield Table(
            ("pass", "places", "first", "reason"),
            tuple((Cell(name), count(places), Cell(node), Cell(reason)) for name, places, node, reason in rows),
        )


def grouped(refusals: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """(how many, the first node, its reason) for each kind of reason."""
    groups: dict[str, list[str]] = {}
    for refusal in refusals:
        groups.setdefault(NAMES.sub("*", refusal.partition(": ")[2]), []).append(refusal)
    for alike in groups.values():
        node, _, reason = alike[0].partition(": ")
        yield len(alike), node, reason


def precision(lowering: Lowering | None) -> Iterator[Section]:
    """How much runs in lower precision, what each part costs in error, and what stays in float32."""
    if lowering is None:
        return
    share = 100 * sum(lowering.products.values()) / lowering.linear_multiply_adds
    blocks: list[Block] = [Line(f"{share:.1f} % of the multiply-adds in products with weights are lowered")]
    if lowering.calibrator:
        blocks.append(Line(f"scales: {lowering.calibrator} on {lowering.calibration}"))
    if lowering.kept:
        reason = f": {lowering.reason}" if lowering.reason else ""
        blocks.append(Line(f"kept in float32: {', '.join(lowering.kept)}{reason}"))
    elif lowering.reason:
        blocks.append(Line(f"no branch or layer is kept in float32: {lowering.reason}"))
    blocks += lines(f"stays in float32: {line}" for line in lowering.float32)
    if lowering.effects:
        blocks.append(Line("remedies against outliers, each on top of those before it; error is ‖Δ logits‖ / ‖logits‖"))
        rows = tuple((Cell(one.remedy), number(one.error)) for one in lowering.effects)
        blocks.append(Table(("remedy", "error"), rows))
    if lowering.errors:
        blocks.append(Line("error of the sum z over branches, ‖Δz‖ / ‖z‖, when only this part is lowered"))
        blocks.append(Table(("part", "error", "", ""), error_rows(lowering.errors), brief=MOST_PARTS))
    if lowering.additivity is not None:
        text = f"the errors of the branches add up to the error of the sum, within {lowering.additivity:.1g} of it"
        blocks.append(Line(text))
    yield Section("Precision", tuple(blocks))


def error_rows(errors: Sequence[PartError]) -> tuple[tuple[Cell, ...], ...]:
    """The parts, those with the largest error first."""
    largest = max(one.error for one in errors) or 1.0
    return tuple(
        (
            Cell(one.part), number(one.error), Cell("", bar=one.error / largest),
            Cell("kept in float32" if one.kept else "", "note"),
        )
        for one in sorted(errors, key=lambda one: -one.error)
    )  # fmt: skip


def candidates(timed: Sequence[CandidateTimes]) -> Iterator[Section]:
    """What `auto` chose from; nothing where there was no choice."""
    if not timed:
        return
    batches = list(dict.fromkeys(batch for one in timed for batch in one.latency_ms))
    rows = tuple(
        (
            Cell(one.target), Cell(one.layout), *(number(one.latency_ms.get(batch)) for batch in batches),
            Cell("chosen", "good") if one.chosen else Cell(one.failure, "note"),
        )
        for one in timed
    )  # fmt: skip
    yield Section(
        "Candidates",
        (
            Line("timed in turns on the machine of the build: median ms of a call"),
            Table(("target", "layout", *(f"batch {batch}" for batch in batches), ""), rows),
        ),
    )


def assumptions(items: Sequence[Assumption], settable: Collection[str]) -> Iterator[Section]:
    """What was assumed, the fields with one reason together; `settable` are the fields that `--spec` takes."""
    groups: dict[str, list[Assumption]] = defaultdict(list)
    for item in items:
        groups[item.reason].append(item)
    if groups:
        texts = [
            f"assumed {', '.join(f'{item.field} = {item.value}' for item in group)}: {reason}"
            for reason, group in groups.items()
        ]
        remedy = any(item.field in settable for item in items)
        more = (Line("to set a field, give --spec FIELD=VALUE"),) if remedy else ()
        yield Section("Assumed", (*lines(texts, "note"), *more))


def warnings(texts: Sequence[str], title: str = "Warnings") -> Iterator[Section]:
    if texts:
        yield Section(title, lines(texts, "note"))


def bisection(found: Bisection) -> Section:
    """Each part that ran alone on the target, and the conclusion."""
    title = f"Each part alone on {found.target}, {counted(found.batch, 'image')}"
    head = ("part", "cut out of", "max |Δ| / max |value|", "", "note")
    rows = tuple(part_row(part, found.limit) for part in found.parts)
    return Section(title, (Table(head, rows), Line(str(found), "bad" if found.culprit else "")))


def part_row(part: PartDifference, limit: float) -> tuple[Cell, ...]:
    difference = "-" if part.failure else "not finite" if part.off is None else f"{part.off:.3g}"
    verdict = Cell("OFF", "bad") if part.is_off(limit) else Cell("did not run" if part.failure else "", "note")
    note = Cell(part.failure or ", ".join(part.worst_branches))
    return (Cell(part.part), Cell(part.within or "the graph"), Cell(difference, is_number=True), verdict, note)


def seconds(stages: Mapping[str, float], total: float, note: str = "") -> Section:
    rows = tuple((Cell(name), number(duration)) for name, duration in stages.items())
    return Section("Seconds", (Table(("stage", "s"), rows), Line(f"{total:.1f} s in all{note}")))
