"""Defines `paraexport inspect`, which shows the contents of a checkpoint, a bundle or an ONNX file."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paraexport.bundle import MANIFEST, summary
from paraexport.bundle.records import Manifest
from paraexport.checkpoint.given import FIELDS
from paraexport.checkpoint.shards import is_checkpoint_folder, weight_files
from paraexport.cli.build_options import build_options
from paraexport.cli.options import PATH, output_options
from paraexport.cli.output import emit_json, escaped, warn, warn_of
from paraexport.cli.render import print_sections, print_table
from paraexport.cli.stages import Stages
from paraexport.errors import BundleError
from paraexport.findings import describe
from paraexport.findings.document import plain_table
from paraexport.findings.words import size_text
from paraexport.model.scores import describe as scores_text
from paraexport.model.scores import recorded
from paraexport.pipeline.cache import require_file
from paraexport.timing.clock import silent

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint
    from paraexport.graph.summary import BranchCost

NATIVE = "paraformer"


@click.command("inspect")
@click.argument("path", type=PATH, metavar="CKPT|BUNDLE|MODEL.onnx")
@build_options("spec", "module", "weights")
@output_options
def command(
    *, path: Path, spec: dict[str, str], module: str | None, weights: str | None, as_json: bool, quiet: bool
) -> None:
    """Show the contents of a checkpoint, a bundle or an ONNX file.

    For a checkpoint, show its spec and the fields that were assumed. For a bundle, verify every file, and show its
    manifest and checks. For an ONNX file, show inputs, operators, and the cost of each branch. No code from the file is
    run.

    \b
    Examples:
      paraexport inspect model.pt
      paraexport inspect model.pt --spec heads=3 --spec residual=normalized
      paraexport inspect model.bundle --json
      paraexport inspect model.bundle/model.onnx
    """
    is_onnx = path.suffix.lower() == ".onnx"
    is_bundle = path.is_dir() and ((path / MANIFEST).exists() or not is_checkpoint_folder(path))
    if (spec or module or weights) and (is_bundle or is_onnx):
        raise click.UsageError("--spec, --module and --weights are for checkpoints", click.get_current_context())
    if is_bundle:
        inspect_bundle(path, as_json=as_json)
    elif is_onnx:
        inspect_onnx(path, as_json=as_json, quiet=quiet)
    else:
        inspect_checkpoint(path, spec, module, weights, as_json=as_json, quiet=quiet)


def inspect_checkpoint(
    path: Path, given: dict[str, str], module: str | None, weights: str | None, *, as_json: bool, quiet: bool
) -> None:
    file = require_file(path)
    with Stages(quiet=quiet) as stages:
        stages("reading")
        from paraexport.checkpoint.load import load_checkpoint

        loaded = load_checkpoint(file, overrides=given, module=module, weights=weights)
    size_bytes, parameters = sum(shard.stat().st_size for shard in weight_files(file)), parameter_count(loaded)
    options = [*(f"--spec {shlex.quote(f'{name}={value}')}" for name, value in given.items())]
    options += [f"--module {shlex.quote(module)}"] if module else []
    options += [f"--weights {shlex.quote(weights)}"] if weights else []
    following = " ".join(["paraexport build", shlex.quote(str(path)), *options])
    warn_of(describe.assumptions(loaded.assumptions, FIELDS))
    if as_json:
        emit_json(
            {
                "kind": "checkpoint",
                "path": str(path),
                "size_bytes": size_bytes,
                "convention": loaded.convention,
                "parameters": parameters,
                "spec": loaded.spec,
                "classifier": loaded.classifier,
                "preprocessing": loaded.preprocessing,
                "labels": loaded.labels,
                "scores": loaded.scores,
                "negative": loaded.negative,
                "assumptions": loaded.assumptions,
                "next": following,
            }
        )
        return
    print(f"{escaped(path)}: a checkpoint, {size_text(size_bytes)}, {parameters:,} parameters")
    print(f"{origin(loaded.convention)}\n")
    values = {**vars(loaded.classifier), **vars(loaded.preprocessing)}
    print_table(summary.spec_table(values, loaded.labels, loaded.assumptions, given))
    if loaded.scores:
        print(f"\nscores: {loaded.scores}, {'given by --spec' if 'scores' in given else 'from its config'}")
    print(f"\nnext: {escaped(following)}")


def parameter_count(loaded: Checkpoint) -> int:
    """Count the trained numbers. A tensor with two names counts once."""
    return sum(parameter.numel() for parameter in loaded.module.parameters())


def inspect_bundle(path: Path, *, as_json: bool) -> None:
    from paraexport.bundle import read_bundle, report

    if not (path / MANIFEST).exists():
        raise BundleError(
            "this folder holds neither a bundle nor a checkpoint",
            where=path,
            expected=f"{MANIFEST} in it",
            remedy="to inspect a checkpoint in a folder, give the path of its weight file",
        )
    bundle = read_bundle(path)
    manifest = bundle.manifest
    following = f"paraexport predict {shlex.quote(str(path))} IMAGE"
    build_report = report.read(bundle.files)
    if as_json:
        about = {"kind": "bundle", "path": str(path), "verified": True, "size_bytes": bundle.size_bytes}
        results = {"engine": build_report.engine, "accuracy": build_report.accuracy}
        emit_json({**about, "manifest": manifest, **results, "next": following})
        return
    print(f"{escaped(path)}: a bundle, {size_text(bundle.size_bytes)}; all files verified")
    print(summary.heading(manifest)[0])
    source = manifest.source
    print(f"built by paraexport {manifest.paraexport} from {escaped(source.name)}; {origin(source.convention)}")
    print(", ".join(f"{name} {version}" for name, version in manifest.versions.items()))
    print()
    print_manifest(manifest)
    print_sections(summary.results(manifest, build_report))
    print()
    print_table(summary.files_table(manifest))
    print(f"\nnext: {escaped(following)}")


def print_manifest(manifest: Manifest) -> None:
    """Print the fields of the model and its images, the meaning of the scores, and the inputs and outputs."""
    preprocessing = manifest.preprocessing
    model = {} if manifest.spec is None else vars(manifest.spec)
    classes = {"classes": manifest.outputs[0].shape[-1]}
    values = {**(model or classes), **vars(preprocessing)}
    given = manifest.source.overrides
    print_table(summary.spec_table(values, manifest.labels, manifest.assumptions, given))
    scores = recorded(manifest.scores, len(manifest.labels))
    print(f"\nscores: {scores_text(scores)}{f'; {scores.reason}' if scores.reason else ''}")
    if scores.negative:
        print(f"label below 50 %: {scores.negative}")
    print_table(summary.tensors_table(manifest.inputs, manifest.outputs))


def inspect_onnx(path: Path, *, as_json: bool, quiet: bool) -> None:
    import msgspec

    from paraexport.graph.summary import Contents
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
    elif any(part.name == "all branches" for part in parts):
        print("parallel branches: stacked, in nodes named branches.*/\n")
    else:
        print("parallel branches: none found, because no node is named branches.N/\n")
    print_table(summary.tensors_table(overview.inputs, overview.outputs))
    print_parts(parts)
    print()
    print_table(plain_table(("operator", "nodes"), operators))


def print_parts(parts: Sequence[BranchCost]) -> None:
    """Print the cost of each branch, and the total."""
    columns = [
        [getattr(part, name) for part in parts] for name in ("nodes", "parameters", "multiply_adds", "activations")
    ]
    names = [*(part.name for part in parts), "total"]
    cells = [[*column, None if None in column else sum(column)] for column in columns]
    rows = [*zip(names, *cells, strict=True)]
    print("\nfor one image")
    print_table(plain_table(("part", "nodes", "parameters", "multiply-adds", "activations"), rows))


def origin(convention: str) -> str:
    if convention == "module":
        return "a module that was not recognised as a Para-Former: it is traced without changes"
    return "weights with paraexport's own names" if convention == NATIVE else f"weights with the names of {convention}"
