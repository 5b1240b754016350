"""`paraexport build`: a checkpoint to a checked bundle."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any, Literal

import click

from paraexport.bundle import Bundle
from paraexport.bundle.records import Manifest, Report
from paraexport.cli.build_options import build_options
from paraexport.cli.options import PATH, output_options
from paraexport.cli.output import (
    argument,
    emit_json,
    escaped,
    print_candidates,
    print_checks,
    print_engine,
    print_lowering,
    print_refusals,
    size_text,
    text_of,
    warn,
    warn_of_assumptions,
)
from paraexport.cli.signals import leaving
from paraexport.cli.stages import Stages
from paraexport.findings.checks import Accuracy
from paraexport.model.scores import describe as described
from paraexport.model.spec import Spec
from paraexport.targets.compilation import EngineOptions
from paraexport.targets.profiles import Profile


@click.command("build")
@click.argument("checkpoint", metavar="CKPT", type=PATH)
@click.option("-o", "--output", metavar="BUNDLE", type=PATH, help="The bundle's folder. [default: CKPT's name .bundle]")
@build_options()
@click.option("--force", is_flag=True, help="Build again, and replace a bundle that is there.")
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

    CKPT is a state dict of torch.save, a .safetensors file, an index of shards or a folder with one, or a .pt2 program;
    no code from it is run. The bundle appears only when every check has passed. With neither --data nor --calib the
    checks run on made-up images. Where nothing has changed since the last build, the bundle that is there is kept as it
    is.

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
        built = build.build(checkpoint, output, force=force, progress=stages, **given)
    reused = build.UNCHANGED in stages.names
    show(Result(built, report.read(built.files), reused, stages.seconds()), as_json=as_json)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a build has to tell."""

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
            return f"copy it to a machine with a GPU, and there paraexport validate {self.bundle.path.name}"
        return f"paraexport predict {shlex.quote(argument(self.bundle.path))} IMAGE"


def show(result: Result, *, as_json: bool) -> None:
    manifest, report = result.bundle.manifest, result.report
    warn_of_assumptions(manifest.assumptions)
    for line in report.unreadable:
        warn(f"skipped {line}")
    for line in report.warnings:
        warn(line)
    if report.made_up:
        warn("the checks ran on made-up images, which no model was trained for; give --data or --calib")
    if report.engine is not None and report.engine.not_inspected:
        warn(f"the engine was compiled and has not run: {report.engine.not_inspected}")
    if as_json:
        emit_json(as_object(result))
        return
    done = "unchanged: reused" if result.reused else "built"
    print(f"{done} {escaped(result.bundle.path)}, {size_text(result.size_bytes)}")
    print(f"{manifest.target} {manifest.precision}, layout {manifest.layout}, batches up to {manifest.max_batch}")
    print(describe(manifest.spec) if manifest.spec else "a module that was not recognised as a Para-Former, traced")
    print(f"scores: {described(manifest.scores)}")
    print_rewrites(manifest)
    print_lowering(manifest.lowering)
    print_candidates(manifest.candidates)
    print_engine(report.engine)
    print(f"\nchecked on {escaped(manifest.evidence)}")
    print_checks(manifest.checks)
    if report.accuracy is not None:
        print(f"\ntop-1: {percent(report.accuracy, 'pytorch')} in PyTorch, {percent(report.accuracy, 'engine')} here")
    if not result.reused:
        stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in result.stages_s.items())
        print(f"\nseconds: {stages}; {sum(result.stages_s.values()):.1f} in all")
    print(f"\nnext: {escaped(result.following)}")


def print_rewrites(manifest: Manifest) -> None:
    """What the layout made of the traced graph; and of a module of the user's own, where it did not apply."""
    if not manifest.rewrites:
        return
    applied = ", ".join(f"{one.name} {one.times}" for one in manifest.rewrites if one.times)
    print(f"rewritten: {applied or 'nothing'}")
    if manifest.spec is None:
        print_refusals((one.name, one.refusals) for one in manifest.rewrites)


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
        "checks": manifest.checks,
        "stages_s": result.stages_s,
        "next": result.following,
    }


def percent(accuracy: Accuracy, side: Literal["pytorch", "engine"]) -> str:
    correct = accuracy.pytorch_correct if side == "pytorch" else accuracy.engine_correct
    return f"{100 * correct / accuracy.images:.2f} % ({correct} of {accuracy.images})"


def describe(spec: Spec) -> str:
    """The spec on one line."""
    return (
        f"{spec.branches} branches of {spec.depth} layers: dim {spec.dim}, {spec.heads} heads of {spec.head_dim}, "
        f"MLP {spec.mlp_dim}, residual {spec.residual}, {spec.activation}, pool {spec.pool}; images "
        f"{spec.channels}x{text_of(spec.image_size)} in patches of {text_of(spec.patch_size)}, {spec.classes} classes"
    )
