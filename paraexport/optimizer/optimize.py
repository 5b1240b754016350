"""Optimizes an ONNX file from any exporter with the exact rewrites, in a separate process.

The file may be damaged. A library that crashes on it, or takes all memory, only ends the separate process. This process
then removes the working folder, and reports the error.
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
"""The layouts that rewrite the graph."""


@dataclass(frozen=True)
class GraphSize:
    """The size of a graph."""

    nodes: int
    multiply_adds: int | None
    """The multiply-adds for one image; None if a shape is not known."""
    weights_bytes: int


@dataclass(frozen=True)
class PassRow:
    """The result of one pass. `canonical` stands for all passes that bring the graph to the form of a trace."""

    name: str
    times: int
    before: GraphSize
    after: GraphSize
    refusals: tuple[str, ...]
    """`node: reason`, one line for each place where the pass nearly applied."""


@dataclass(frozen=True)
class Rewritten:
    """The result of the separate process. The file is in the working folder, not yet in its place."""

    changed: bool
    opset: tuple[int, int]
    passes: tuple[PassRow, ...]
    check: Check | None
    sources: tuple[str, ...]
    """The file and its files of weights. The output must not replace them."""


@dataclass(frozen=True)
class Optimized:
    """The result of `optimize`."""

    output: Path
    layout: str
    changed: bool
    """False if there was nothing to rewrite. Then the output equals the input, byte for byte."""
    opset: tuple[int, int]
    """The opset of the input and of the output."""
    passes: tuple[PassRow, ...]
    check: Check | None
    """The comparison of both graphs; None if nothing changed."""

    @property
    def before(self) -> GraphSize:
        """The size of the input. Its multiply-adds may only be known after its shapes became constants."""
        first = self.passes[0].before
        counted = first.multiply_adds if first.multiply_adds is not None else self.passes[0].after.multiply_adds
        return GraphSize(first.nodes, counted, first.weights_bytes)

    @property
    def after(self) -> GraphSize:
        """The size of the output."""
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

    The output has the inputs and outputs of `source` and, if possible, its opset. Weights of more than 2 GiB go to a
    file beside `output`. If there is nothing to rewrite, the output is a copy of the input.

    Args:
        layout: one of `LAYOUT_NAMES`.
        force: whether to replace an existing `output`.
        progress: called with the name of each stage when it begins.
        warn: called with each warning of a library, on one line.

    Raises:
        InputError: the file cannot be rewritten safely, a library crashed on it, or the output cannot be written.
        CheckFailed: the rewritten graph gives different answers. Nothing is written.
        MissingError: a library is not installed, or there is not enough memory.
    """
    source, output = Path(source), without_dots(Path(output))

    def work(folder: Path) -> Rewritten:
        result = isolation.call(
            "paraexport.optimizer.rewriting:rewrite_into",
            *(str(source), str(folder), str(output), layout, force),
            where=source,
            remedy="export it again, if necessary with another exporter",
            progress=progress,
            warn=warn,
        )
        return msgspec.convert(result, Rewritten)

    return put_in_place(source, output, layout, force=force, work=work)


def put_in_place(
    source: Path, output: Path, layout: str, *, force: bool, work: Callable[[Path], Rewritten]
) -> Optimized:
    """Let `work` fill a folder beside `output`, then move the result to its place. A failure leaves nothing behind.

    Raises:
        InputError: the layout is unknown, or the output cannot be written. Errors of `work` are raised as they are.
    """
    if layout not in LAYOUT_NAMES:
        raise InputError("unknown layout", where="--layout", expected=f"one of {', '.join(LAYOUT_NAMES)}", got=layout)
    saving.check(output, [source], force=force)
    with saving.staging(output, force=force) as (folder, sources):
        result = work(folder)
        sources.extend(map(Path, result.sources))
    return Optimized(output, layout, result.changed, result.opset, result.passes, result.check)
