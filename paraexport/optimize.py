"""optimize(): the exact rewrites on an ONNX file of any origin, checked against the file before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from paraexport import onnx_input, onnx_output
from paraexport.clock import Progress, silent
from paraexport.errors import CheckFailed, InputError, OutputError
from paraexport.onnx_file import load, save
from paraexport.plain_paths import is_text, plain
from paraexport.records import Check
from paraexport.rewrite import LAYOUTS, Step, applied, canonical, foreign_steps, restore, tidy
from paraexport.rewrite.cost import multiply_adds
from paraexport.self_check import Difference, Reference, as_check, open_graph

LAYOUT_NAMES = tuple(name for name, passes in LAYOUTS.items() if passes)
NO_REWRITES = {canonical.NAME, restore.NAME, tidy.NAME}
"""What these do alone is no gain: they change the form of a graph, or tidy it up."""


@dataclass(frozen=True)
class Size:
    """How large a graph is."""

    nodes: int
    multiply_adds: int | None
    """Of one image; None where a shape is not known."""
    weights_bytes: int


@dataclass(frozen=True)
class PassRow:
    """What one pass did; `canonical` stands for all that bring the graph to the form of a trace."""

    name: str
    times: int
    before: Size
    after: Size
    refusals: tuple[str, ...]
    """`node: reason`, one line for each place where it nearly applied."""


@dataclass(frozen=True)
class Optimized:
    """What `optimize` did."""

    output: Path
    layout: str
    changed: bool
    """False where there was nothing to rewrite: the output then is the input, byte for byte."""
    opset: tuple[int, int]
    """Of the input and of the output."""
    passes: tuple[PassRow, ...]
    check: Check | None
    """The comparison of both graphs; None where there was nothing to compare."""

    @property
    def before(self) -> Size:
        """Of the file; its multiply-adds may be known only once its shapes are constants."""
        first = self.passes[0].before
        counted = first.multiply_adds if first.multiply_adds is not None else self.passes[0].after.multiply_adds
        return Size(first.nodes, counted, first.weights_bytes)

    @property
    def after(self) -> Size:
        return self.passes[-1].after if self.changed else self.passes[0].before


def optimize(
    source: Path, output: Path, *, layout: str = "folded", force: bool = False, progress: Progress = silent
) -> Optimized:
    """Apply the rewrites of `layout` to the ONNX file `source`, check the result against it, and write `output`.

    Weights beyond 2 GiB go to a file beside `output`. The output has the inputs, outputs and, where it can, the opset
    of the input. Where there is nothing to rewrite, it is the input.

    Raises:
        InputError: the file cannot be rewritten with certainty, or the output cannot be written.
        CheckFailed: the rewritten graph answers otherwise; nothing is written.
        MissingError: a library is not installed here.
    """
    if layout not in LAYOUT_NAMES:
        raise InputError("unknown layout", where="--layout", expected=f"one of {', '.join(LAYOUT_NAMES)}", got=layout)
    source, output = Path(source), Path(output)
    progress("reading")
    images = onnx_input.check(source)
    sources = [source, *(source.parent / location for location in external_files(source))]
    onnx_output.check(output, sources, force=force)
    model = load(source)
    version = model.opset_imports[""]
    with onnx_output.staging(output, sources, force=force) as staged:
        folder = plain(staged)
        progress("rewriting")
        steps = foreign_steps(model, layout)
        signature = Signature(model)
        passes = merged([*measured(model, steps)])
        if not any(row.times for row in passes if row.name not in NO_REWRITES):
            copy(source, staged, output.name)
            passes = tuple(row for row in passes if row.name != restore.NAME)
            return Optimized(output, layout, False, (version, version), passes, None)
        signature.put_back()
        progress("checking")
        run, moved = (open_graph(source, images.name, moved=moved) for moved in (False, True))
        reference = Reference(run, moved, images.shape, source)
        trial = Trial(source, folder, reference, images.name)
        name = output.name if is_text(Path(output.name)) else "model.onnx"
        check = trial.require_passed(model, name, steps)
        progress("writing")
        (staged / name).rename(staged / output.name)
    return Optimized(output, layout, True, (version, model.opset_imports[""]), passes, check)


def measured(model: ir.Model, steps: Sequence[Step]) -> Iterator[PassRow]:
    before = size_of(model.graph)
    for done in applied(model, steps):
        after = size_of(model.graph)
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
        self.graph = model.graph
        self.shapes = [value.shape.copy() if value.shape else None for value in self.values()]

    def values(self) -> list[ir.Value]:
        inputs = [value for value in self.graph.inputs if value.name not in self.graph.initializers]
        return [*inputs, *self.graph.outputs]

    def put_back(self) -> None:
        for value, shape in zip(self.values(), self.shapes, strict=True):
            value.shape = shape


def copy(source: Path, folder: Path, name: str) -> None:
    """The file as it is, with the files of weights that it names where it goes to another folder."""
    shutil.copyfile(source, folder / name)
    if folder.parent.samefile(source.parent):
        return
    for location in external_files(source):
        place = folder / location
        if place.exists():
            where = folder.parent / name
            raise OutputError("the output is called as its weights are", where=where, remedy="give another name")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.parent / location, place)


def external_files(source: Path) -> set[str]:
    model = onnx.load(source, load_external_data=False)
    tensors = [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    return {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}


class Trial:
    """Rewritten graphs against the file that they came from."""

    def __init__(self, source: Path, folder: Path, reference: Reference, images: str) -> None:
        self.source, self.folder, self.reference, self.images = source, folder, reference, images

    def require_passed(self, model: ir.Model, name: str, steps: Sequence[Step]) -> Check:
        """Write `model` as `name` and compare it.

        Raises:
            CheckFailed: it is not valid, does not run or answers otherwise; it names the pass from which on.
        """
        try:
            found = self.differences(model, name)
        except InputError as error:
            raise CheckFailed(
                "the rewritten graph does not run", where=self.source, got=error.got, remedy=self.blame(steps)
            ) from error
        check = as_check(found)
        failed = [one for one in found if not one.passed]
        if not failed:
            return check
        worst = max(failed, key=lambda one: one.value / one.limit)
        failure = CheckFailed(
            "the rewritten graph answers otherwise",
            where=self.source,
            expected=f"{check.unit} at most {worst.limit:g}",
            got=f"{worst.value:.3g} on {worst.case}, and too much on {len(failed)} of {len(found)} inputs",
            remedy=self.blame(steps),
        )
        failure.checks = (check,)
        raise failure

    def differences(self, model: ir.Model, name: str) -> list[Difference]:
        path = self.folder / name
        save(model, path)
        return [*self.reference.differences(open_graph(path, self.images))]

    def blame(self, steps: Sequence[Step]) -> str:
        """One clause on the first pass after which the graph is wrong; the passes are applied anew, one by one."""
        model = load(self.source)
        name = "the writing of the file"
        for done in applied(model, steps):
            try:
                fine = all(one.passed for one in self.differences(model, "step.onnx"))
            except InputError:
                fine = False
            if not fine:
                name = f"the pass {done.name}"
                break
        return f"nothing was written; it is wrong from {name} on: report this as a bug, with the file"
