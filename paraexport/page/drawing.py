"""Lays out the picture of a model: the branches as rows, their layers as boxes, between stem and sum."""

from __future__ import annotations

from dataclasses import dataclass

from paraexport.bundle.records import Report, Subject
from paraexport.findings.words import counted, option_text, percent
from paraexport.model.spec import Spec

MOST_ROWS, MOST_BOXES = 8, 8
"""More branches, or more layers, are abbreviated in the middle."""
ROW, BOX_WIDTH, BOX_HEIGHT, GAP = 34, 46, 24, 8
STEM_WIDTH, NAME_WIDTH, SHARE_WIDTH, HEAD_WIDTH, WIRE = 92, 66, 52, 92, 26


@dataclass(frozen=True)
class Box:
    x: float
    y: float
    width: float
    height: float
    text: str
    kind: str
    """A class of the style: `stem`, `layer`, `kept`, `dots`, `sum`, `head`."""
    more: str = ""
    """A second line."""


@dataclass(frozen=True)
class Wire:
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Label:
    x: float
    y: float
    text: str
    kind: str = "name"


@dataclass(frozen=True)
class Drawing:
    width: float
    height: float
    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]
    labels: tuple[Label, ...]
    description: str
    """A text alternative."""
    has_kept: bool


def drawing(subject: Subject, report: Report) -> Drawing | None:
    """Lay out the picture; None for a module that was not recognised as a Para-Former."""
    if (spec := subject.spec) is None:
        return None
    kept = frozenset(subject.lowering.kept) if subject.lowering else frozenset()
    shares = {branch.name: branch.contribution for branch in report.branches.branches} if report.branches else {}
    rows, columns = abbreviated(spec.branches, MOST_ROWS), abbreviated(spec.depth, MOST_BOXES)
    first = STEM_WIDTH + WIRE + NAME_WIDTH
    last = first + len(columns) * (BOX_WIDTH + GAP) - GAP
    sum_x = last + (SHARE_WIDTH if shares else 0) + WIRE
    middle, height = len(rows) * ROW / 2, len(rows) * ROW
    boxes = [*ends(spec, middle, sum_x)]
    wires = [Wire(sum_x, middle, sum_x + 30 + WIRE, middle)]
    labels: list[Label] = []
    for row, branch in enumerate(rows):
        y = row * ROW + ROW / 2
        if branch is None:
            labels.append(Label((first + last) / 2, y, f"… {spec.branches - len(rows) + 1} more branches …", "dots"))
            continue
        name = f"branches.{branch}"
        wires += [Wire(STEM_WIDTH, middle, STEM_WIDTH + WIRE, y), Wire(STEM_WIDTH + WIRE, y, sum_x - WIRE, y)]
        wires.append(Wire(sum_x - WIRE, y, sum_x, middle))
        labels.append(Label(STEM_WIDTH + WIRE + 4, y, f"branch {branch}"))
        boxes += (
            layer_box(first + column * (BOX_WIDTH + GAP), y, layer, kept & {name, f"{name}/layers.{layer}"} != set())
            for column, layer in enumerate(columns)
        )
        if name in shares:
            labels.append(Label(last + 6, y, percent(shares[name], 0), "share"))
    width = sum_x + 30 + WIRE + HEAD_WIDTH
    return Drawing(width, height, tuple(boxes), tuple(wires), tuple(labels), describe(spec, kept), bool(kept))


def abbreviated(count: int, most: int) -> list[int | None]:
    """The numbers up to `count`; if they are many, None stands for those in the middle."""
    return [*range(count)] if count <= most else [*range(most - 2), None, count - 1]


def layer_box(x: float, y: float, layer: int | None, is_kept: bool) -> Box:
    if layer is None:
        return Box(x, y - BOX_HEIGHT / 2, BOX_WIDTH, BOX_HEIGHT, "…", "dots")
    text = f"{layer}*" if is_kept else f"{layer}"
    return Box(x, y - BOX_HEIGHT / 2, BOX_WIDTH, BOX_HEIGHT, text, "kept" if is_kept else "layer")


def ends(spec: Spec, middle: float, sum_x: float) -> tuple[Box, ...]:
    rows, columns = (side // patch for side, patch in zip(spec.image_size, spec.patch_size, strict=True))
    head = sum_x + 30 + WIRE
    return (
        Box(0, middle - 22, STEM_WIDTH, 44, "embedding", "stem", f"{rows * columns} patches"),
        Box(sum_x, middle - 15, 30, 30, "Σ", "sum"),
        Box(head, middle - 22, HEAD_WIDTH, 44, "head", "head", counted(spec.classes, "class")),
    )


def describe(spec: Spec, kept: frozenset[str]) -> str:
    more = f" In float32: {', '.join(sorted(kept))}." if kept else ""
    return (
        f"Images of {option_text(spec.image_size)} go through the embedding into {counted(spec.branches, 'branch')} of "
        f"{counted(spec.depth, 'layer')} each. The outputs of the branches are summed, and one head gives "
        f"{counted(spec.classes, 'class')}.{more}"
    )
