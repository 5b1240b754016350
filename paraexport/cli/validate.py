"""`paraexport validate`: a bundle against its golden logits, or against PyTorch."""

from __future__ import annotations

from pathlib import Path

import click

from paraexport.cli.options import PATH, limit_option, output_options, reading_options
from paraexport.cli.output import Stages, emit_json, print_checks
from paraexport.errors import CheckFailed


@click.command("validate")
@click.argument("bundle", type=PATH)
@click.argument("checkpoint", metavar="[CKPT]", required=False, type=PATH)
@click.option("--data", metavar="PATH", type=PATH, help="Labelled images to check with: a folder of classes, or .npz.")
@limit_option
@reading_options
@output_options
def command(
    *,
    bundle: Path,
    checkpoint: Path | None,
    data: Path | None,
    limits: dict[str, float],
    spec: dict[str, str],
    module: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Check that BUNDLE still answers as PyTorch did.

    Every file is verified, and the golden inputs in the bundle are run again: their logits must be those that PyTorch
    gave when the bundle was built. This needs no PyTorch. With CKPT, the checkpoint that it was built from is loaded
    and compared afresh. The exit code is 1 when a check fails.

    \b
    Examples:
      paraexport validate model.bundle
      paraexport validate model.bundle model.pt --data photos/test
    """
    if checkpoint is None and (spec or module):
        raise click.UsageError("--spec and --module need CKPT", click.get_current_context())
    with Stages(quiet=quiet) as stages:
        from paraexport.revalidate import revalidate

        checks = revalidate(bundle, checkpoint, spec=spec, module=module, data=data, limits=limits, progress=stages)
    if not any(check.passed for check in checks):
        raise CheckFailed("nothing was checked", where=bundle)
    if as_json:
        against = "golden inputs" if checkpoint is None else str(checkpoint)
        emit_json({"bundle": str(bundle), "against": against, "passed": True, "checks": checks})
        return
    print_checks(checks)
    print(f"\n{bundle} answers as {'PyTorch did' if checkpoint is None else f'{checkpoint} in PyTorch does'}")
