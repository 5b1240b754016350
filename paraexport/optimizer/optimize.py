"""optimize(): the exact rewrites on an ONNX file of any origin, in a process of its own, and what they did.

The file may be anything. A library that crashes on it, or takes all memory, ends the process that works on the file;
this one takes the folder away that the work was in, and reports it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from paraexport.errors import InputError
from paraexport.findings.checks import Check
from paraexport.optimizer import saving
from paraexport.pipeline.choices import LAYOUTS
from paraexport.system import isolation
from paraexport.system.files import without_dots
from paraexport.timing.clock import Progress, silent

LAYOUT_NAMES = LAYOUTS[1:]
"""Those that rewrite."""


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
class Rewritten:
    """What was done with a file; the result is in a folder and not yet in its place."""

    changed: bool
    opset: tuple[int, int]
    passes: tuple[PassRow, ...]
    check: Check | None
    sources: tuple[str, ...]
    """The file and those of its weights, which the result must not replace."""


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
    source: Path,
    output: Path,
    *,
    layout: str = "folded",
    force: bool = False,
    progress: Progress = silent,
    warn: Progress = silent,
) -> Optimized:
    """Apply the rewrites of `layout` to the ONNX file `source`, check the result against it, and write `output`.

    Weights beyond 2 GiB go to a file beside `output`. The output has the inputs, outputs and, where it can, the opset
    of the input. Where there is nothing to rewrite, it is the input.

    Args:
        progress: called with the name of each stage when it begins.
        warn: called with each warning of a library, on one line.

    Raises:
        InputError: the file cannot be rewritten with certainty, a library crashed on it, or the output cannot be
            written.
        CheckFailed: the rewritten graph answers otherwise; nothing is written.
        MissingError: a library is not installed here, or memory is too little.
    """
    source, output = Path(source), without_dots(Path(output))

    def work(folder: Path) -> Rewritten:
        result = isolation.call(
            "paraexport.optimizer.rewriting:rewrite_into",
            *(str(source), str(folder), str(output), layout, force),
            where=source,
            remedy="export it again, with another exporter if need be",
            progress=progress,
            warn=warn,
        )
        return msgspec.convert(result, Rewritten)

    return put_in_place(source, output, layout, force=force, work=work)


def put_in_place(
    source: Path, output: Path, layout: str, *, force: bool, work: Callable[[Path], Rewritten]
) -> Optimized:
    """Have `work` fill a folder beside `output`, and move what it wrote to its place; after a failure nothing is left.

    Raises:
        InputError: the output cannot be written, or what `work` raises.
    """
    if layout not in LAYOUT_NAMES:
        raise InputError("unknown layout", where="--layout", expected=f"one of {', '.join(LAYOUT_NAMES)}", got=layout)
    saving.check(output, [source], force=force)
    with saving.staging(output, force=force) as (folder, sources):
        done = work(folder)
        sources.extend(map(Path, done.sources))
    return Optimized(output, layout, done.changed, done.opset, done.passes, done.check)
