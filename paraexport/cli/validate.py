"""`paraexport validate`: a bundle against its golden logits, or against PyTorch."""

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
@click.option("--bisect", is_flag=True, help="Run every part of the graph alone on the target, and say which is off.")
@build_options("data", "limits")
@build_options("spec", "module", "weights")
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
    as_json: bool,
    quiet: bool,
) -> None:
    """Check that BUNDLE still answers as PyTorch did.

    Every file is verified, and the golden inputs in the bundle are run again: their logits must be those that PyTorch
    gave when the bundle was built. This needs no PyTorch. With CKPT, the checkpoint that it was built from is loaded
    and compared afresh. The exit code is 1 when a check fails.

    Where a check fails although the graph itself is right, node by node, the graph is cut: stem, branches, sum and head
    run alone on the target, then the layers and modules of the one that is off the most. --bisect does so in any case.
    It needs onnx and ONNX Runtime.

    \b
    Examples:
      paraexport validate model.bundle
      paraexport validate model.bundle model.pt --data photos/test
      paraexport validate model.bundle --bisect
    """
    if checkpoint is None and (spec or module or weights):
        raise click.UsageError("--spec, --module and --weights need CKPT", click.get_current_context())
    with Stages(quiet=quiet) as stages:
        from paraexport.checks import golden
        from paraexport.pipeline import bisect as bisection
        from paraexport.pipeline import validate as stage

        warnings: list[str] = []
        given = {"spec": spec, "module": module, "weights": weights, "data": data, "limits": limits}
        validated = stage.run(bundle, checkpoint, given, progress=stages, warn=warnings.append)
        found = bisection.bisect(bundle, limits=limits, progress=stages) if bisect else None
    checks = validated.checks
    if not any(check.passed for check in checks if check.name != golden.PREPARED):
        raise CheckFailed("nothing was checked", where=bundle)
    for line in warnings:
        warn(line)
    if as_json:
        against = "golden inputs" if checkpoint is None else str(checkpoint)
        more = {"accuracy": validated.accuracy, "warnings": warnings} | ({} if found is None else {"bisection": found})
        emit_json({"bundle": str(bundle), "against": against, "passed": True, "checks": checks, **more})
        return
    print_sections(
        [
            describe.checks(checks),
            *describe.accuracy(validated.accuracy),
            *([describe.bisection(found)] if found else []),
        ]
    )
    print()
    other = "PyTorch gave at the build" if checkpoint is None else f"{checkpoint} gives in PyTorch"
    print(escaped(f"{bundle} gives the same answers as {other}"))
