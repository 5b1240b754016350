"""The exact rewrites on an ONNX file of any origin, checked against the file before anything is written.

`optimize()` itself, which runs all of this in a process of its own, is in `optimize`.
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
from paraexport.optimizer.optimize import LAYOUT_NAMES, Optimized, PassRow, Rewritten, Size, optimize, put_in_place
from paraexport.optimizer.requirements import Source
from paraexport.optimizer.self_check import Reference, open_graph
from paraexport.optimizer.trial import Trial
from paraexport.rewrite import Step, applied, canonical, foreign_steps
from paraexport.rewrite.passes import restore, tidy
from paraexport.system.files import without_dots
from paraexport.system.memory_bound import memory_bound
from paraexport.timing.clock import Progress, silent

__all__ = ["LAYOUT_NAMES", "Optimized", "PassRow", "Size", "optimize", "optimize_here"]
NO_REWRITES = {canonical.NAME, restore.NAME, tidy.NAME}
"""What these do alone is no gain: they change the form of a graph, or tidy it up."""


def optimize_here(
    source: Path, output: Path, *, layout: str = "folded", force: bool = False, progress: Progress = silent
) -> Optimized:
    """The same as `optimize`, in this process: a library that crashes on the file ends it."""
    output = without_dots(Path(output))

    def work(folder: Path) -> Rewritten:
        return rewrite_into(str(source), str(folder), str(output), layout, force, progress=progress)

    return put_in_place(Path(source), output, layout, force=force, work=work)


def rewrite_into(source: str, folder: str, output: str, layout: str, force: bool, *, progress: Progress) -> Rewritten:
    """Write the file `source`, rewritten and checked, into `folder`, under the name that `output` has.

    Raises:
        InputError: the file cannot be rewritten with certainty, or the output cannot be written.
        CheckFailed: the rewritten graph answers otherwise.
        MissingError: memory is too little.
    """
    work, name = Path(folder), Path(output).name
    progress("reading")
    read = requirements.read(Path(source))
    model, version = read.model, read.model.opset_imports[""]
    sources = (source, *(str(read.path.parent / location) for location in read.weights_files))
    saving.check_replaceable(Path(output), [Path(file) for file in sources], force=force)
    progress("rewriting")
    steps, passes = rewritten(read, layout)
    if not any(row.times for row in passes if row.name not in NO_REWRITES):
        copy(read, work, Path(output))
        passes = tuple(row for row in passes if row.name != restore.NAME)
        return Rewritten(False, (version, version), passes, None, sources)
    progress("checking")
    trial = Trial(read, work, reference_of(read))
    check = trial.require_passed(model, name, steps)
    progress("writing")
    return Rewritten(True, (version, model.opset_imports[""]), passes, check, sources)


def reference_of(source: Source) -> Reference:
    """The answers of the file, from one session at a time."""
    run = open_graph(source.path, source.images.name)
    free_batch.require(run, source)
    reference = Reference(run, source.images.shape, source.path)
    del run
    reference.allow(open_graph(source.path, source.images.name, moved=True))
    return reference


def rewritten(source: Source, layout: str) -> tuple[Sequence[Step], tuple[PassRow, ...]]:
    """Rewrite the graph of `source` in place; returns the steps, and what each of them did."""
    steps = foreign_steps(source.model, layout)
    signature = Signature(source.model)
    with memory_bound(most_memory(source.path, source.weights_files), source.path):
        passes = merged([*measured(source.model, steps)])
    signature.put_back()
    return steps, passes


def measured(model: ir.Model, steps: Sequence[Step]) -> Iterator[PassRow]:
    before = size_of(model.graph)
    for done in applied(model, steps):
        # Counting multiply-adds infers all shapes anew: three quarters of the time on a long graph.
        unchanged = not done.times and len(model.graph) == before.nodes
        after = before if unchanged else size_of(model.graph)
        yield PassRow(done.name, done.times, before, after, tuple(done.refusals))
        before = after


def size_of(graph: ir.Graph) -> Size:
    try:
        count = multiply_adds(graph)
    except ValueError:
        count = None
    weights = (value.const_value for value in graph.initializers.values())
    return Size(len(graph), count, sum(weight.nbytes for weight in weights if weight is not None))


def merged(rows: Sequence[PassRow]) -> tuple[PassRow, ...]:
    """The rows, those of the canonical form as one."""
    first = [row for row in rows if row.name in canonical.NAMES]
    refusals = tuple(refusal for row in first for refusal in row.refusals)
    times = sum(row.times for row in first)
    form = PassRow(canonical.NAME, times, first[0].before, first[-1].after, refusals)
    return (form, *(row for row in rows if row not in first))


class Signature:
    """The inputs and outputs of a graph as its file states them; the work may name a free batch."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        """Its graph may be replaced by a copy from before a pass."""
        self.shapes = [value.shape.copy() if value.shape else None for value in self.values()]

    def values(self) -> list[ir.Value]:
        graph = self.model.graph
        return [*(value for value in graph.inputs if value.name not in graph.initializers), *graph.outputs]

    def put_back(self) -> None:
        for value, shape in zip(self.values(), self.shapes, strict=True):
            value.shape = shape


def copy(source: Source, folder: Path, output: Path) -> None:
    """The file as it is, with its files of weights where it goes to another folder."""
    shutil.copyfile(source.path, folder / output.name)
    if output.absolute().parent.samefile(source.path.absolute().parent):
        return
    for location in source.weights_files:
        place = folder / location
        if place.exists():
            raise OutputError("the output is called as its weights are", where=output, remedy="give another name")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path.parent / location, place)
