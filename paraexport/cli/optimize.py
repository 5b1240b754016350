"""Defines `paraexport optimize`, which applies the exact rewrites to any ONNX file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paraexport.cli.options import PATH, output_options
from paraexport.cli.output import argument, emit_json, escaped, warn
from paraexport.cli.render import print_blocks, print_table
from paraexport.cli.signals import leaving
from paraexport.cli.stages import Stages
from paraexport.findings.describe import refused
from paraexport.findings.document import plain_table
from paraexport.pipeline.choices import LAYOUTS
from paraexport.timing.clock import silent

if TYPE_CHECKING:
    from paraexport.optimizer.optimize import GraphSize, Optimized


@click.command("optimize")
@click.argument("source", metavar="MODEL.onnx", type=PATH)
@click.option("-o", "--output", metavar="OUT.onnx", type=PATH, required=True, help="The file to write.")
@click.option(
    "--layout",
    type=click.Choice(LAYOUTS[1:]),
    default=LAYOUTS[1],
    show_default=True,
    help="How the graph is arranged. folded: branches side by side. stacked: all branches as one, which suits runtimes "
    "that prefer few large operators.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@output_options
def command(*, source: Path, output: Path, layout: str, force: bool, as_json: bool, quiet: bool) -> None:
    """Make an ONNX model with parallel branches faster.

    MODEL.onnx is a float32 model for images, from any exporter, with a free batch size. The rewrites are exact: shared
    work of the branches is computed once, and unused tokens are not computed. Both models are then run in ONNX Runtime,
    on random images and edge cases. The result is written only if both give the same outputs. A graph that cannot be
    rewritten safely is refused. If nothing can be improved, OUT.onnx is a copy of MODEL.onnx.

    \b
    Examples:
      paraexport optimize model.onnx -o fast.onnx
      paraexport optimize model.onnx -o fast.onnx --layout stacked --force
      paraexport optimize model.onnx -o fast.onnx --json
    """
    with leaving("nothing was written"), Stages(quiet=quiet) as stages:
        from paraexport.optimizer.optimize import optimize

        result = optimize(source, output, layout=layout, force=force, progress=stages, warn=silent if quiet else warn)
    following = f"paraexport inspect {shlex.quote(argument(output))}"
    if as_json:
        emit_json(as_object(source, result, following))
    else:
        show(source, result, following)


def as_object(source: Path, result: Optimized, following: str) -> dict[str, object]:
    return {
        "model": str(source),
        "output": str(result.output),
        "layout": result.layout,
        "changed": result.changed,
        "opset": {"before": result.opset[0], "after": result.opset[1]},
        "before": result.before,
        "after": result.after,
        "passes": result.passes,
        "check": result.check,
        "next": following,
    }


def show(source: Path, result: Optimized, following: str) -> None:
    if not result.changed:
        print(f"nothing to improve in {escaped(source)}: {escaped(result.output)} is an exact copy")
        show_refusals(result)
        print(f"\nnext: {escaped(following)}")
        return
    print(f"rewrote {escaped(source)} to {escaped(result.output)}, layout {result.layout}")
    before, after = result.opset
    print(f"opset {after}, unchanged\n" if before == after else f"opset {before} -> {after}\n")
    rows: list[tuple[object, ...]] = [(row.name, row.times, *changes(row.before, row.after)) for row in result.passes]
    rows.append(("all", "", *changes(result.before, result.after)))
    print_table(plain_table(("pass", "applied", "nodes", "multiply-adds", "MB"), rows))
    show_refusals(result)
    assert result.check is not None
    check = result.check
    print(
        f"\nself-check: {check.unit} is {check.value:.2g}, at most {check.limit:g}, on {check.samples} images\n"
        f"\nnext: {escaped(following)}"
    )


def show_refusals(result: Optimized) -> None:
    if blocks := [*refused((row.name, row.refusals) for row in result.passes)]:
        print()
        print_blocks(blocks)


def changes(before: GraphSize, after: GraphSize) -> tuple[str, str, str]:
    return (
        change(str(before.nodes), str(after.nodes)),
        change(count_text(before.multiply_adds), count_text(after.multiply_adds)),
        change(f"{before.weights_bytes / 1e6:.2f}", f"{after.weights_bytes / 1e6:.2f}"),
    )


def change(before: str, after: str) -> str:
    return before if before == after else f"{before} -> {after}"


def count_text(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"
