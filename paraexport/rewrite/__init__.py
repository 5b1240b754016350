"""Rewrites an ONNX graph with exact passes. Each pass has its own file, its identity, a count and refusals.

A layout is a list of passes in a fixed order. Folding and early selection come before stacking, because the stacked
graph has no separate token axis to select from. A graph of another exporter first gets the form of a trace
(`canonical`), and at the end the operators of its file again (`restore`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from paraexport.findings.graphs import Rewrite
from paraexport.graph.onnx_file import load, save
from paraexport.graph.refusal import Applied
from paraexport.rewrite import canonical
from paraexport.rewrite.atomic import Pass as Pass
from paraexport.rewrite.atomic import Step as Step
from paraexport.rewrite.atomic import atomic, on_graph
from paraexport.rewrite.passes import (
    absorb,
    biases,
    deep,
    equalise,
    keep,
    lower,
    norms,
    offsets,
    patches,
    pool,
    restore,
    scales,
    select,
    skips,
    stack,
    tidy,
)

FOLDING: tuple[Pass, ...] = (
    offsets.apply,
    scales.apply,
    biases.apply,
    patches.apply,
    select.apply,
    pool.apply,
    absorb.apply,
)
LAYOUTS: Mapping[str, tuple[Pass, ...]] = {
    "branches": (),
    "folded": (norms.apply, *FOLDING, deep.apply, skips.apply, tidy.apply),
    "stacked": (functools.partial(norms.apply, everywhere=True), *FOLDING, stack.apply, tidy.apply),
}


def rewrite(source: Path, layout: str, folder: Path, opset: int | None = None) -> tuple[Rewrite, ...]:
    """Rewrite the ONNX file at `source`, write it to the new `folder` under the same name, and report each pass.

    With `opset`, the graph is then lowered to that opset. If that is not possible, the last pass reports the reasons.

    Raises:
        TraceError: the rewritten graph is not valid ONNX.
    """
    steps = layout_steps(layout)
    if opset is not None:
        steps += (functools.partial(lower.apply, opset=opset),)
    folder.mkdir()
    model = load(source)
    reports = [*applied(model, steps)]
    save(model, folder / source.name)
    return tuple(Rewrite(report.name, report.times, tuple(report.refusals)) for report in reports)


def low_precision_steps(layout: str, kept: Iterable[str], *, equalised: bool) -> tuple[Step, ...]:
    """The passes of a layout for a graph whose precision is lowered afterwards.

    With `equalised`, value channels are equalised. The parts `kept` in float32 are marked. The branches are summed in
    float32, so there is no deep product over them.
    """
    folding = (*FOLDING, *([equalise.apply] if equalised else []))
    mark = functools.partial(keep.apply, parts=tuple(kept))
    passes: Mapping[str, tuple[Pass, ...]] = {
        "branches": (mark,),
        "folded": (norms.apply, *folding, mark, tidy.apply),
        "stacked": (
            functools.partial(norms.apply, everywhere=True),
            *folding,
            mark,
            functools.partial(stack.apply, deep=False),
            tidy.apply,
        ),
    }
    return tuple(on_graph(apply) if apply is mark else guarded(apply) for apply in passes[layout])


def layout_steps(layout: str) -> tuple[Step, ...]:
    """The passes of a layout, for a graph in the form of a trace."""
    return tuple(map(guarded, LAYOUTS[layout]))


def guarded(apply: Pass) -> Step:
    """The pass as an atomic step, which reports under the name of its module."""
    function = apply.func if isinstance(apply, functools.partial) else apply
    return atomic(function.__module__.rpartition(".")[2], on_graph(apply))


def foreign_steps(model: ir.Model, layout: str) -> tuple[Step, ...]:
    """The passes of a layout for `model`, the unchanged graph of another exporter."""
    return (*canonical.STEPS, *layout_steps(layout), atomic(restore.NAME, restore.step_for(model)))


def applied(model: ir.Model, steps: Sequence[Step]) -> Iterator[Applied]:
    """Apply the steps to a model in place, one after another, and give the report of each."""
    for step in steps:
        yield step(model)
