"""Defines `paraexport inspect`, which shows the contents of a checkpoint, a bundle or an ONNX file."""

from __future__ import annotations

from pathlib import Path

import click

from paraexport.bundle import MANIFEST
from paraexport.checkpoint.shards import is_checkpoint_folder
from paraexport.cli.build_options import build_options
from paraexport.cli.inspect import bundle, checkpoint, onnx_file
from paraexport.cli.options import PATH, output_options
from paraexport.pipeline.options import Reading


@click.command("inspect")
@click.argument("path", type=PATH, metavar="CKPT|BUNDLE|MODEL.onnx")
@build_options("spec", "module", "weights", "rename")
@click.option("--branches", is_flag=True, help="For a bundle: show what each branch is worth.")
@output_options
def command(
    *,
    path: Path,
    spec: dict[str, str],
    module: str | None,
    weights: str | None,
    rename: dict[str, str],
    branches: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show the contents of a checkpoint, a bundle or an ONNX file.

    For a checkpoint, show its spec, and the fields that were assumed or must be given. For a bundle, verify every file,
    and show its manifest and checks. For an ONNX file, show inputs, operators, and the cost of each branch. No code
    from the file is run.

    \b
    Examples:
      paraexport inspect model.pt
      paraexport inspect model.pt --spec heads=3 --spec residual=normalized
      paraexport inspect model.bundle --json
      paraexport inspect model.bundle --branches
      paraexport inspect model.bundle/model.onnx
    """
    is_onnx = path.suffix.lower() == ".onnx"
    is_bundle = path.is_dir() and ((path / MANIFEST).exists() or not is_checkpoint_folder(path))
    if (spec or module or weights or rename) and (is_bundle or is_onnx):
        message = "--spec, --module, --weights and --rename are for checkpoints"
        raise click.UsageError(message, click.get_current_context())
    if branches and not is_bundle and path.exists():
        raise click.UsageError("--branches is for bundles", click.get_current_context())
    if is_bundle:
        bundle.show(path, branches=branches, as_json=as_json)
    elif is_onnx:
        onnx_file.show(path, as_json=as_json, quiet=quiet)
    else:
        checkpoint.show(path, Reading(spec, module, weights, rename, None), as_json=as_json, quiet=quiet)
