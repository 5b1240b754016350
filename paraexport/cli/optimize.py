"""`paraexport optimize`: the exact rewrites on any ONNX file."""

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
    help="folded: branches side by side; stacked: all branches as one, for runtimes that like few large operators.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@output_options
def command(*, source: Path, output: Path, layout: str, force: bool, as_json: bool, quiet: bool) -> None:
    """Rewrite an ONNX model with parallel branches, exactly.

    MODEL.onnx is a float32 graph of images with a free batch, of any exporter. What its branches share is computed
    once, and tokens that nobody reads are not computed. The result is run beside the original in ONNX Runtime, on
    random images and on edge cases, and appears only when both answer alike. A graph that cannot be rewritten with
    certainty is refused; where there is nothing to gain, OUT.onnx is the same file.

    \b
    Examples:
      paraexport optimize model.onnx -o fast.onnx
      paraexport optimize model.onnx -o fast.onnx --layout stacked --force
      paraexport optimize model.onnx -o fast.onnx --json
    """
    with leaving("nothing was written"), Stages(quiet=quiet) as stages:
        from paraexport.optimizer.optimize import optimize

        done = optimize(source, output, layout=layout, force=force, progress=stages, warn=silent if quiet else warn)
    following = f"paraexport inspect {shlex.quote(argument(output))}"
    if as_json:
        emit_json(as_object(source, done, following))
    else:
        show(source, done, following)


def as_object(source: Path, done: Optimized, following: str) -> dict[str, object]:
    return {
        "model": str(source),
        "output": str(done.output),
        "layout": done.layout,
        "changed": done.changed,
        "opset": {"before": done.opset[0], "after": done.opset[1]},
        "before": done.before,
        "after": done.after,
        "passes": done.passes,
        "check": done.check,
        "next": following,
    }


def show(source: Path, done: Optimized, following: str) -> None:
    if not done.changed:
        print(f"nothing to rewrite in {escaped(source)}: {escaped(done.output)} is the same file, byte for byte")
        show_refusals(done)
        print(f"\nnext: {escaped(following)}")
        return
    print(f"rewrote {escaped(source)} to {escaped(done.output)}, layout {done.layout}")
    before, after = done.opset
    print(f"opset {after}, as it was\n" if before == after else f"opset {before} -> {after}\n")
    rows: list[tuple[object, ...]] = [(row.name, row.times, *changes(row.before, row.after)) for row in done.passes]
    rows.append(("all", "", *changes(done.before, done.after)))
    print_table(plain_table(("pass", "applied", "nodes", "multiply-adds", "MB"), rows))
    show_refusals(done)
    assert done.check is not None
    check = done.check
    print(
        f"\nself-check: {check.unit} is {check.value:.2g}, at most {check.limit:g}, on {check.samples} images\n"
        f"\nnext: {escaped(following)}"
    )


def show_refusals(done: Optimized) -> None:
    if blocks := [*refused((row.name, row.refusals) for row in done.passes)]:
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
