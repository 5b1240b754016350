"""What the commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from paraexport.errors import on_one_line, printable
from paraexport.findings.checks import Check
from paraexport.findings.graphs import CandidateTimes, Lowering
from paraexport.model.spec import Assumption, Preprocessing, Spec

if TYPE_CHECKING:
    from rich.console import Console

    from paraexport.targets.compilation import EngineInfo

NAMES = re.compile(r"[^\s,;]*[\d/_][^\s,;]*")
"""Words that are no English: names of nodes and values, and numbers."""
SHOWN = 4
"""Parts with the largest error; the report has all."""
WIDE = 10_000
"""Columns of what is no terminal: nothing is wrapped there."""


def emit_json(value: object) -> None:
    """Print `value`, of dataclasses, mappings, sequences, text and numbers, as one JSON object on stdout."""
    import msgspec

    print(json.dumps(finite(msgspec.to_builtins(value)), indent=2, allow_nan=False))


def finite(value: object) -> object:
    """`value` with null for every infinity and NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(line: str) -> None:
    """Print one line on stderr; where nobody listens there, the work goes on."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def warn(line: str) -> None:
    say(f"warning: {line_of(line)}")


def line_of(text: object) -> str:
    """`text` on one line, with what could steer a terminal written out as an escape."""
    return printable(on_one_line(text))


def escaped(text: object) -> str:
    """`text`, such as a path, with an escape for everything that could steer a terminal or end the line."""
    return printable(str(text))


def console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, markup=False, highlight=False, emoji=False, width=None if stream.isatty() else WIDE)


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout without lines; an empty `header` leaves the heads out."""
    from rich.table import Table

    table = Table(box=None, show_header=any(header), pad_edge=False, header_style="bold")
    width = len(header)
    for index, title in enumerate(header):
        table.add_column(title, overflow="fold", no_wrap=index == 0 and width > 1)
    for row in rows:
        table.add_row(*map(line_of, row))
    screen = console(sys.stdout)
    with screen.capture() as captured:
        screen.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_checks(checks: Sequence[Check]) -> None:
    """One row a check; the reason is shown for what did not pass and for a limit that was moved."""
    rows = [
        (
            check.name,
            "FAILED" if check.passed is False else check.verdict,
            "-" if check.value is None else f"{check.value:.3g}",
            f"{check.limit:g}",
            check.unit,
            check.samples,
            check.reason if not check.passed or check.reason.startswith("moved") else "",
        )
        for check in checks
    ]
    print_table(("check", "verdict", "value", "limit", "unit", "samples", "note"), rows)


def print_lowering(lowering: Lowering | None) -> None:
    """How much is in lower precision, what each part costs in error, and what was kept."""
    if lowering is None:
        return
    share = sum(lowering.products.values()) / lowering.linear_multiply_adds
    by = f", {lowering.calibrator} on {lowering.calibration}" if lowering.calibrator else ""
    print(f"lowered: {100 * share:.1f} % of the multiply-adds of products by constants{by}")
    layers = [one for one in lowering.errors if "/" in one.part] or [*lowering.errors]
    if worst := sorted(layers, key=lambda one: -one.error)[:SHOWN]:
        print("error at the sum over branches: " + ", ".join(f"{one.part} {one.error:.2g}" for one in worst))
    if lowering.kept or lowering.reason:
        print(f"kept in float32: {', '.join(lowering.kept) or 'nothing'}; {lowering.reason}")
    for line in lowering.float32:
        print(f"stays in float32: {line}")


def print_candidates(candidates: Sequence[CandidateTimes]) -> None:
    """What `auto` chose from, one row each; nothing where there was no choice."""
    if not candidates:
        return
    print("\ntimed on the machine of the build, in turns: median ms a call")
    batches = list(dict.fromkeys(batch for one in candidates for batch in one.latency_ms))
    rows = [
        (
            one.target,
            one.layout,
            *(f"{one.latency_ms[batch]:.3g}" if batch in one.latency_ms else "-" for batch in batches),
            "chosen" if one.chosen else one.failure,
        )
        for one in candidates
    ]
    print_table(("target", "layout", *(f"batch {batch}" for batch in batches), ""), rows)


def print_engine(engine: EngineInfo | None) -> None:
    """What was compiled, for what."""
    if engine is None:
        return
    gpus = f"compute capability {', '.join(engine.built_for)}" if engine.built_for else "any GPU that it knows"
    profiles = ", ".join(map(str, engine.profiles))
    print(
        f"compiled: {size_text(engine.size_bytes)} by {engine.runtime} {engine.version}, for {gpus}; batches {profiles}"
    )
    if engine.inspection is not None:
        asked, used = engine.options.aux_streams, engine.inspection.aux_streams
        streams = f", {used} auxiliary streams{'' if asked is None else f' of {asked} asked for'}"
        memory = size_text(engine.inspection.memory_bytes)
        print(f"it became {len(engine.inspection.layers)} layers{streams}, {memory} of GPU memory a context")


def print_refusals(passes: Iterable[tuple[str, Sequence[str]]]) -> None:
    """What each pass refused: one line for all whose reasons differ in names and numbers only."""
    rows = [(name, *line) for name, refusals in passes for line in grouped(refusals)]
    if rows:
        print("\nnot rewritten:")
        print_table(("pass", "places", "first", "reason"), rows)


def grouped(refusals: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """(how many, the first node, its reason) for each kind of reason."""
    groups: dict[str, list[str]] = {}
    for refusal in refusals:
        groups.setdefault(NAMES.sub("*", refusal.partition(": ")[2]), []).append(refusal)
    for alike in groups.values():
        node, _, reason = alike[0].partition(": ")
        yield len(alike), node, reason


def warn_of_assumptions(assumptions: Iterable[Assumption]) -> None:
    """What had to be assumed, and how to say it where that can be said."""
    settable = {field.name for kind in (Spec, Preprocessing) for field in dataclasses.fields(kind)}
    settable |= {"join", "labels", "patch_order", "scores"}
    for one in assumptions:
        remedy = f"; to set it, give --spec {one.field}=VALUE" if one.field in settable else ""
        warn(f"assumed {one.field} = {one.value}: {one.reason}{remedy}")


def text_of(value: object) -> str:
    """A field's value as `--spec` takes it: (32, 48) -> `32x48`, True -> `true`, (0.5, 0.4) -> `0.5,0.4`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        sides = len(value) == 2 and all(isinstance(side, int) for side in value)
        return ("x" if sides else ",").join(map(str, value))
    return str(value)


def argument(path: Path) -> str:
    """A path that no command takes for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def size_text(size_bytes: int) -> str:
    """1536 -> `1.5 kB`, in powers of 1000."""
    size = float(size_bytes)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
