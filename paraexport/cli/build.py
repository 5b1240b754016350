"""Defines `paraexport build`, which turns a checkpoint into a checked bundle."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import click

from paraexport.bundle import Bundle, summary
from paraexport.bundle.records import Report
from paraexport.cli.build_options import build_options
from paraexport.cli.options import PATH, output_options
from paraexport.cli.output import argument, emit_json, escaped, warn_of
from paraexport.cli.render import print_sections
from paraexport.cli.signals import leaving
from paraexport.cli.stages import Stages
from paraexport.findings.words import size_text
from paraexport.targets.compilation import EngineOptions
from paraexport.targets.profiles import Profile
from paraexport.timing.clock import silent


@click.command("build")
@click.argument("checkpoint", metavar="CKPT", type=PATH)
@click.option(
    "-o", "--output", metavar="BUNDLE", type=PATH, help="The bundle's folder. [default: model.bundle for model.pt]"
)
@build_options()
@click.option("--force", is_flag=True, help="Build again, and replace an existing bundle.")
@output_options
def command(
    *,
    checkpoint: Path,
    output: Path | None,
    compute_capabilities: tuple[str, ...],
    profiles: tuple[Profile, ...],
    engine: EngineOptions,
    force: bool,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Build a bundle from a checkpoint, checked against PyTorch.

    CKPT is a state dict from torch.save, a .safetensors file, an index of shards, a folder with one of these, or a .pt2
    program. No code from it is run. The bundle is written only if every check passes. Without --data and --calib, the
    checks run on made-up images. If nothing has changed since the last build, the existing bundle is kept.

    \b
    Examples:
      paraexport build model.pt
      paraexport build model.pt -o out/model.bundle --data photos/test
      paraexport build model.pt --spec heads=3 --spec labels=classes.txt
      paraexport build model.pt --module mymodel.py:make --calib photos/any
      paraexport build model.pt --precision int8 --calib photos/any --data photos/test --max-drop 0.5
    """
    with leaving("nothing was written"), Stages(quiet=quiet) as stages:
        from paraexport.bundle import report
        from paraexport.pipeline import build

        given["engine"] = dataclasses.replace(engine, compute_capabilities=compute_capabilities, profiles=profiles)
        built = build.build(checkpoint, output, force=force, progress=stages, warn=silent, **given)
    reused = build.UNCHANGED in stages.names
    show(Result(built, report.read(built.files), reused, stages.seconds()), as_json=as_json)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a build prints."""

    bundle: Bundle
    report: Report
    reused: bool
    stages_s: dict[str, float]

    @property
    def size_bytes(self) -> int:
        return self.bundle.size_bytes

    @property
    def following(self) -> str:
        if self.report.engine is not None and self.report.engine.not_inspected:
            name = shlex.quote(argument(Path(self.bundle.path.name)))
            return f"copy the bundle to a machine with a GPU, and run there: paraexport validate {name}"
        return f"paraexport predict {shlex.quote(argument(self.bundle.path))} IMAGE"


def show(result: Result, *, as_json: bool) -> None:
    manifest, report = result.bundle.manifest, result.report
    warn_of(summary.cautions(report))
    if as_json:
        emit_json(as_object(result))
        return
    action = "unchanged: reused" if result.reused else "built"
    print(f"{action} {escaped(result.bundle.path)}, {size_text(result.size_bytes)}")
    for line in summary.heading(manifest):
        print(escaped(line))
    print_sections(summary.results(manifest, report))
    if not result.reused:
        stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in result.stages_s.items())
        print(f"\nseconds: {stages}; {sum(result.stages_s.values()):.1f} in total")
    print(f"\nnext: {escaped(result.following)}")


def as_object(result: Result) -> dict[str, object]:
    manifest, report = result.bundle.manifest, result.report
    return {
        "bundle": str(result.bundle.path),
        "reused": result.reused,
        "size_bytes": result.size_bytes,
        "target": manifest.target,
        "precision": manifest.precision,
        "layout": manifest.layout,
        "rewrites": manifest.rewrites,
        "lowering": manifest.lowering,
        "candidates": manifest.candidates,
        "engine": report.engine,
        "max_batch": manifest.max_batch,
        "key": manifest.key,
        "spec": manifest.spec,
        "assumptions": manifest.assumptions,
        "evidence": manifest.evidence,
        "made_up": report.made_up,
        "unreadable": report.unreadable,
        "warnings": report.warnings,
        "scores": manifest.scores,
        "accuracy": report.accuracy,
        "first_look": report.first_look,
        "checks": manifest.checks,
        "stages_s": result.stages_s,
        "next": result.following,
    }
