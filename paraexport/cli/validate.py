"""Defines `paraexport validate`, which checks a bundle against its golden logits or against PyTorch."""

from __future__ import annotations

from pathlib import Path

import click

from paraexport.cli.build_options import build_options
from paraexport.cli.options import PATH, output_options
from paraexport.cli.output import emit_json, escaped, warn
from paraexport.cli.render import print_sections
from paraexport.cli.stages import Stages
from paraexport.errors import CheckFailed
from paraexport.findings import describe


@click.command("validate")
@click.argument("bundle", type=PATH)
@click.argument("checkpoint", metavar="[CKPT]", required=False, type=PATH)
@click.option(
    "--bisect", is_flag=True, help="Run each part of the graph alone on the target, and report the wrong part."
)
@build_options("data", "limits")
@build_options("spec", "module", "weights", "rename")
@output_options
def command(
    *,
    bundle: Path,
    checkpoint: Path | None,
    data: Path | None,
    bisect: bool,
    limits: dict[str, float],
    spec: dict[str, str],
    module: str | None,
    weights: str | None,
    rename: dict[str, str],
    as_json: bool,
    quiet: bool,
) -> None:
    """Check that BUNDLE still gives the results of PyTorch.

    This verifies every file and runs the golden images in the bundle again. The logits must match those of PyTorch at
    build time. PyTorch itself is not needed. With CKPT, the checkpoint of the build, PyTorch runs again for comparison.
    The exit code is 1 if a check fails.

    If a check fails although the graph itself is right, validate searches for the part that the target computes
    wrongly. It runs stem, branches, sum and head alone on the target, then the layers and modules of the worst of them.
    With --bisect, it always does this. The search needs onnx and ONNX Runtime.

    \b
    Examples:
      paraexport validate model.bundle
      paraexport validate model.bundle model.pt --data photos/test
      paraexport validate model.bundle --bisect
    """
    if checkpoint is None and (spec or module or weights or rename):
        raise click.UsageError("--spec, --module, --weights and --rename need CKPT", click.get_current_context())
    with Stages(quiet=quiet) as stages:
        from paraexport.checks import golden
        from paraexport.pipeline import bisect as bisection
        from paraexport.pipeline import validate as stage

        warnings: list[str] = []
        given = {"spec": spec, "module": module, "weights": weights, "rename": rename, "data": data, "limits": limits}
        validated = stage.run(bundle, checkpoint, given, progress=stages, warn=warnings.append)
        differences = bisection.bisect(bundle, limits=limits, progress=stages) if bisect else None
    checks = tuple(validated)
    if not any(check.passed for check in checks if check.name != golden.PREPARED):
        raise CheckFailed("nothing was checked", where=bundle)
    for line in warnings:
        warn(line)
    if as_json:
        against = "golden inputs" if checkpoint is None else str(checkpoint)
        more: dict[str, object] = {"accuracy": validated.accuracy, "warnings": warnings}
        if differences is not None:
            more["bisection"] = differences
        emit_json({"bundle": str(bundle), "against": against, "passed": True, "checks": checks, **more})
        return
    print_sections(
        [
            describe.checks(checks),
            *describe.accuracy(validated.accuracy),
            *([describe.bisection(differences)] if differences else []),
        ]
    )
    print()
    reference = "PyTorch at build time" if checkpoint is None else f"{checkpoint} in PyTorch"
    print(escaped(f"{bundle} gives the same results as {reference}"))
