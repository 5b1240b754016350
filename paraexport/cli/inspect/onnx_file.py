"""Shows the contents of an ONNX file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paraexport.bundle import summary
from paraexport.cli.output import emit_json, escaped, warn
from paraexport.cli.render import print_table
from paraexport.findings.document import plain_table
from paraexport.findings.words import counted, size_text
from paraexport.timing.clock import silent

if TYPE_CHECKING:
    from paraexport.graph.summary import BranchCost


def show(path: Path, *, as_json: bool, quiet: bool) -> None:
    import msgspec

    from paraexport.graph.summary import MERGED, Contents
    from paraexport.system import isolation

    answer = isolation.call(
        "paraexport.graph.inspection:read",
        str(path),
        where=path,
        remedy="export it again, if necessary with another exporter",
        warn=silent if quiet else warn,
    )
    contents = msgspec.convert(answer, Contents)
    overview, parts = contents.summary, contents.parts
    if contents.missing:
        warn(contents.missing)
    if as_json:
        emit_json({"kind": "onnx", "path": str(path), **dataclasses.asdict(overview), "parts": parts})
        return
    operators = sorted(overview.operators.items(), key=lambda pair: (-pair[1], pair[0]))
    opsets = ", ".join(f"{domain} {version}" for domain, version in overview.opsets.items())
    print(f"{escaped(path)}: an ONNX model, {size_text(overview.size_bytes)}, opset {opsets}")
    print(f"weights: {size_text(overview.weights_bytes)} in {overview.weights} initializers")
    print(f"dynamic axes: {', '.join(overview.dynamic_axes) or 'none'}")
    if overview.overridable:
        print(f"inputs with a default value, which callers may override: {', '.join(overview.overridable)}")
    if overview.branches:
        print(f"parallel branches: {overview.branches}, in nodes named branches.N/\n")
    elif any(part.name == MERGED for part in parts):
        print("parallel branches: merged, in nodes named branches.*/\n")
    else:
        print("parallel branches: none found; no name of a node or module contains branches.N\n")
    print_table(summary.tensors_table(overview.inputs, overview.outputs))
    print_parts(parts, overview.batch)
    print()
    print_table(plain_table(("operator", "nodes"), operators))


def print_parts(parts: Sequence[BranchCost], batch: int) -> None:
    """Print the cost of each branch, and the total."""
    columns = [
        [getattr(part, name) for part in parts] for name in ("nodes", "parameters", "multiply_adds", "activations")
    ]
    names = [*(part.name for part in parts), "total"]
    cells = [[*column, None if None in column else sum(column)] for column in columns]
    rows = [*zip(names, *cells, strict=True)]
    print(f"\nfor {counted(batch, 'image')}{', the fixed batch of this file' if batch > 1 else ''}")
    print_table(plain_table(("part", "nodes", "parameters", "multiply-adds", "activations"), rows))
