"""Rewrites an ONNX file, and checks the result against the file before anything is written.

`optimize` calls this module in a separate process.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx_ir as ir

from paraexport.errors import OutputError
from paraexport.graph.cost import multiply_adds
from paraexport.graph.untrusted import most_memory
from paraexport.optimizer import free_batch, requirements, saving
from paraexport.optimizer.optimize import LAYOUT_NAMES, GraphSize, Optimized, PassRow, Rewritten, optimize, put_in_place
from paraexport.optimizer.requirements import OnnxSource
from paraexport.optimizer.self_check import ReferenceAnswers, open_graph
from paraexport.optimizer.trial import Trial
from paraexport.rewrite import Step, applied, canonical, foreign_steps
from paraexport.rewrite.passes import restore, tidy
from paraexport.system.files import without_dots
from paraexport.system.memory_bound import memory_bound
from paraexport.timing.clock import Progress, silent

__all__ = ["LAYOUT_NAMES", "GraphSize", "Optimized", "PassRow", "optimize", "optimize_here"]
NO_REWRITES = {canonical.NAME, restore.NAME, tidy.NAME}
"""Passes that only change the form of a graph. Without other passes, they are no gain."""


def optimize_here(
    source: Path, output: Path, *, layout: str = "folded", force: bool = False, progress: Progress = silent
) -> Optimized:
    """The same as `optimize`, but in this process. A library that crashes on the file ends it."""
    output = without_dots(Path(output))

    def work(folder: Path) -> Rewritten:
        return rewrite_into(str(source), str(folder), str(output), layout, force, progress=progress)

    return put_in_place(Path(source), output, layout, force=force, work=work)


def rewrite_into(source: str, folder: str, output: str, layout: str, force: bool, *, progress: Progress) -> Rewritten:
    """Rewrite and check the file `source`, and write the result into `folder`, with the file name of `output`.

    Raises:
        InputError: the file cannot be rewritten safely, or the output cannot be written.
        CheckFailed: the rewritten graph gives different answers.
        MissingError: there is not enough memory.
    """
    work, name = Path(folder), Path(output).name
    progress("reading")
    onnx_source = requirements.read(Path(source))
    model, version = onnx_source.model, onnx_source.model.opset_imports[""]
    sources = (source, *(str(onnx_source.path.parent / location) for location in onnx_source.weights_files))
    saving.check_replaceable(Path(output), [Path(file) for file in sources], force=force)
    progress("rewriting")
    steps, passes = rewrite(onnx_source, layout)
    if not any(row.times for row in passes if row.name not in NO_REWRITES):
        copy(onnx_source, work, Path(output))
        passes = tuple(row for row in passes if row.name != restore.NAME)
        return Rewritten(False, (version, version), passes, None, sources)
    progress("checking")
    trial = Trial(onnx_source, work, open_reference(onnx_source))
    check = trial.require_passed(model, name, steps)
    progress("writing")
    return Rewritten(True, (version, model.opset_imports[""]), passes, check, sources)


def open_reference(source: OnnxSource) -> ReferenceAnswers:
    """The answers of the file. Only one session is open at a time, since each holds all weights."""
    run = open_graph(source.path, source.images.name)
    free_batch.require(run, source)
    reference = ReferenceAnswers(run, source.images.shape, source.path)
    del run
    reference.allow(open_graph(source.path, source.images.name, moved=True))
    return reference


def rewrite(source: OnnxSource, layout: str) -> tuple[Sequence[Step], tuple[PassRow, ...]]:
    """Rewrite the graph of `source` in place. Returns the steps and their results."""
    steps = foreign_steps(source.model, layout)
    signature = Signature(source.model)
    with memory_bound(most_memory(source.path, source.weights_files), source.path):
        passes = merge([*measure(source.model, steps)])
    signature.put_back()
    return steps, passes


def measure(model: ir.Model, steps: Sequence[Step]) -> Iterator[PassRow]:
    """Apply the steps one by one, with the size of the graph before and after each."""
    before = measure_size(model.graph)
    for step in applied(model, steps):
        # Counting multiply-adds infers all shapes again, which takes three quarters of the time on a long graph.
        unchanged = not step.times and len(model.graph) == before.nodes
        after = before if unchanged else measure_size(model.graph)
        yield PassRow(step.name, step.times, before, after, tuple(step.refusals))
        before = after


def measure_size(graph: ir.Graph) -> GraphSize:
    try:
        count = multiply_adds(graph)
    except ValueError:
        count = None
    weights = (value.const_value for value in graph.initializers.values())
    return GraphSize(len(graph), count, sum(weight.nbytes for weight in weights if weight is not None))


def merge(rows: Sequence[PassRow]) -> tuple[PassRow, ...]:
    """The rows, with those of the canonical form merged into one."""
    first = [row for row in rows if row.name in canonical.NAMES]
    refusals = tuple(refusal for row in first for refusal in row.refusals)
    times = sum(row.times for row in first)
    form = PassRow(canonical.NAME, times, first[0].before, first[-1].after, refusals)
    return (form, *(row for row in rows if row not in first))


class Signature:
    """The shapes of the inputs and outputs in the file. Rewriting may give a free batch another name."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        """A refused pass may replace its graph by a copy."""
        self.shapes = [value.shape.copy() if value.shape else None for value in self.values()]

    def values(self) -> list[ir.Value]:
        graph = self.model.graph
        return [*(value for value in graph.inputs if value.name not in graph.initializers), *graph.outputs]

    def put_back(self) -> None:
        """Restore the shapes."""
        for value, shape in zip(self.values(), self.shapes, strict=True):
            value.shape = shape


def copy(source: OnnxSource, folder: Path, output: Path) -> None:
    """Copy the unchanged file, with its files of weights if the output is in another folder."""
    shutil.copyfile(source.path, folder / output.name)
    if output.absolute().parent.samefile(source.path.absolute().parent):
        return
    for location in source.weights_files:
        place = folder / location
        if place.exists():
            raise OutputError("the output has the name of its own weights", where=output, remedy="give another name")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path.parent / location, place)
