"""Writes findings as sections: checks, accuracy, rewrites, precision, candidates, assumptions and bisections."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from paraexport.findings.assumptions import Assumption
from paraexport.findings.bisection import Bisection, PartDifference
from paraexport.findings.checks import Accuracy, Check
from paraexport.findings.document import Block, Cell, Line, Section, Table, Tone, count, lines, number
from paraexport.findings.graphs import CandidateTimes, Lowering, PartError, Rewrite
from paraexport.findings.speed import FirstLook
from paraexport.findings.words import counted, size_text

NAMES = re.compile(r"[^\s,;]*[\d/_][^\s,;]*")
"""Names of nodes and values, and numbers, inside a sentence."""
MOST_PARTS = 4
"""A terminal shows this many parts with the largest errors; the report shows all."""
MOVED = "moved"
"""The reason of a limit begins with this word if the user set the limit."""


def checks(results: Sequence[Check], evidence: str = "") -> Section:
    """List each check with its verdict. A terminal shows the reason only if a check did not pass or was moved."""
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
    """Describe top-1 in PyTorch and of the bundle; nothing without labels."""
    if result is None:
        return
    sides = [
        f"{100 * correct / result.images:.2f} % ({correct} of {result.images}) {where}"
        for correct, where in ((result.pytorch_correct, "in PyTorch"), (result.engine_correct, "here"))
        if correct is not None
    ]
    yield Section("Accuracy", (Line(f"top-1: {', '.join(sides)}"),))


def first_look(look: FirstLook | None) -> Iterator[Section]:
    """Describe size and latency beside those of the checkpoint in PyTorch."""
    if look is None:
        return
    size = f"size: {size_text(look.model_bytes)}; the checkpoint: {size_text(look.checkpoint_bytes)}"
    pytorch = f"{look.pytorch_ms:.3g} ms in PyTorch"
    if look.engine_ms is None:
        speed = f"one image: {pytorch}; the engine does not run on this machine"
    else:
        factor = look.pytorch_ms / look.engine_ms
        speed = f"one image: {look.engine_ms:.3g} ms here, {pytorch}: {factor:.1f} times as fast"
    note = "a rough measurement, the median of a few calls; `paraexport bench` measures with care"
    yield Section("Size and speed", (Line(size), Line(speed), Line(note)))


def rewrites(passes: Sequence[Rewrite], *, refusals: bool) -> Iterator[Section]:
    """Describe the effect of each pass. With `refusals`, also list places where a pass nearly applied."""
    if not passes:
        return
    applied = [f"{rewrite.name} {rewrite.times}×" for rewrite in passes if rewrite.times]
    blocks: list[Block] = [Line(f"applied: {', '.join(applied) or 'nothing'}")]
    if refusals:
        blocks += refused((rewrite.name, rewrite.refusals) for rewrite in passes)
    yield Section("Rewrites", tuple(blocks))


def refused(passes: Iterable[tuple[str, Sequence[str]]]) -> Iterator[Block]:
    """List the refusals of each pass, with one row for refusals whose reasons differ only in names and numbers."""
    rows = [(name, *group) for name, refusals in passes for group in grouped(refusals)]
    if rows:
        yield Line("not rewritten:")
        yield Table(
            ("pass", "places", "first", "reason"),
            tuple((Cell(name), count(places), Cell(node), Cell(reason)) for name, places, node, reason in rows),
        )


def grouped(refusals: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Yield (count, first node, its reason) for each kind of reason."""
    groups: dict[str, list[str]] = {}
    for refusal in refusals:
        groups.setdefault(NAMES.sub("*", refusal.partition(": ")[2]), []).append(refusal)
    for alike in groups.values():
        node, _, reason = alike[0].partition(": ")
        yield len(alike), node, reason


def precision(lowering: Lowering | None) -> Iterator[Section]:
    """Describe the share in lower precision, the error from each part, and the parts that stay in float32."""
    if lowering is None:
        return
    share = 100 * sum(lowering.products.values()) / lowering.linear_multiply_adds
    text = f"{share:.1f} % of the multiply-adds in products with weights run in lower precision"
    blocks: list[Block] = [Line(text)]
    if lowering.calibrator:
        blocks.append(Line(f"scales: {lowering.calibrator} on {lowering.calibration}"))
    if lowering.kept:
        reason = f": {lowering.reason}" if lowering.reason else ""
        blocks.append(Line(f"kept in float32: {', '.join(lowering.kept)}{reason}"))
    elif lowering.reason:
        blocks.append(Line(f"no branch or layer is kept in float32: {lowering.reason}"))
    blocks += lines(f"stays in float32: {line}" for line in lowering.float32)
    if lowering.effects:
        blocks.append(Line("remedies against outliers, each added to those above; error is ‖Δ logits‖ / ‖logits‖"))
        rows = tuple((Cell(effect.remedy), number(effect.error)) for effect in lowering.effects)
        blocks.append(Table(("remedy", "error"), rows))
    if lowering.errors:
        blocks.append(Line("error of the sum z over branches, ‖Δz‖ / ‖z‖, if only this part runs in lower precision"))
        blocks.append(Table(("part", "error", "", ""), error_rows(lowering.errors), brief=MOST_PARTS))
    if lowering.additivity is not None:
        text = (
            f"the errors of the branches explain the error of the sum, except for a share of {lowering.additivity:.1g}"
        )
        blocks.append(Line(text))
    yield Section("Precision", tuple(blocks))


def error_rows(errors: Sequence[PartError]) -> tuple[tuple[Cell, ...], ...]:
    """List the parts, largest error first."""
    largest = max(part.error for part in errors) or 1.0
    return tuple(
        (
            Cell(part.part), number(part.error), Cell("", bar=part.error / largest),
            Cell("kept in float32" if part.kept else "", "note"),
        )
        for part in sorted(errors, key=lambda part: -part.error)
    )  # fmt: skip


def candidates(timed: Sequence[CandidateTimes]) -> Iterator[Section]:
    """List the candidates that `auto` timed; nothing if there was no choice."""
    if not timed:
        return
    batches = list(dict.fromkeys(batch for entry in timed for batch in entry.latency_ms))
    rows = tuple(
        (
            Cell(entry.target), Cell(entry.layout), *(number(entry.latency_ms.get(batch)) for batch in batches),
            Cell("chosen", "good") if entry.chosen else Cell(entry.failure, "note"),
        )
        for entry in timed
    )  # fmt: skip
    yield Section(
        "Candidates",
        (
            Line("timed in turns on the machine of the build: median ms for one call"),
            Table(("target", "layout", *(f"batch {batch}" for batch in batches), ""), rows),
        ),
    )


def assumptions(items: Sequence[Assumption], settable: Collection[str]) -> Iterator[Section]:
    """List the assumptions, grouped by reason. `settable` are the fields that `--spec` takes."""
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


def bisection(result: Bisection) -> Section:
    """List each part that ran alone on the target, and the conclusion."""
    title = f"Each part alone on {result.target}, {counted(result.batch, 'image')}"
    head = ("part", "inside", "max |Δ| / max |value|", "", "note")
    rows = tuple(part_row(part, result.limit) for part in result.parts)
    return Section(title, (Table(head, rows), Line(str(result), "bad" if result.culprit else "")))


def part_row(part: PartDifference, limit: float) -> tuple[Cell, ...]:
    difference = "-" if part.failure else "not finite" if part.off is None else f"{part.off:.3g}"
    verdict = Cell("OFF", "bad") if part.is_off(limit) else Cell("did not run" if part.failure else "", "note")
    note = Cell(part.failure or ", ".join(part.worst_branches))
    return (Cell(part.part), Cell(part.within or "the graph"), Cell(difference, is_number=True), verdict, note)


def seconds(stages: Mapping[str, float], total: float, note: str = "") -> Section:
    rows = tuple((Cell(name), number(duration)) for name, duration in stages.items())
    return Section("Seconds", (Table(("stage", "s"), rows), Line(f"{total:.1f} s in total{note}")))
