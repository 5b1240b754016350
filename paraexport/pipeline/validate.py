"""Defines validate(), which runs the checks of a bundle again, with or without PyTorch."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from paraexport import bundle, targets
from paraexport.bundle.records import Manifest
from paraexport.checks import engine_or_graph, golden, verdicts
from paraexport.checks.blame import blame
from paraexport.engine import Engine, load
from paraexport.findings.bisection import Bisection
from paraexport.findings.checks import Accuracy, Check
from paraexport.images.dataset import Samples
from paraexport.model.scores import class_names, classes_of, recorded
from paraexport.pipeline import cache, image_evidence, reading, validate_fewer
from paraexport.pipeline import images as image_sets
from paraexport.pipeline.bisect import BISECTING, engine_options, read_golden
from paraexport.pipeline.bundle_source import SourceFile, built_with, kept_branches, require_module, require_same_shapes
from paraexport.pipeline.options import Options
from paraexport.timing.clock import Clock, Progress, silent

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint

AnyPath = str | os.PathLike[str]


class Validation(tuple[Check, ...]):
    """The checks of a bundle, with the accuracy beside them."""

    accuracy: Accuracy | None
    """Accuracy on labelled images, or None without them. Without a checkpoint, PyTorch's accuracy is not known."""

    def __new__(cls, checks: Iterable[Check] = (), accuracy: Accuracy | None = None) -> Self:
        validation = super().__new__(cls, checks)
        validation.accuracy = accuracy
        return validation


def validate(
    path: AnyPath,
    checkpoint: AnyPath | None = None,
    *,
    spec: Mapping[str, object] | None = None,
    module: str | None = None,
    weights: str | None = None,
    rename: Mapping[str, str] | None = None,
    data: AnyPath | None = None,
    limits: Mapping[str, float] | None = None,
    progress: Progress = silent,
    warn: Callable[[str], None] = silent,
) -> Validation:
    """Check the bundle at `path` again: against the stored logits of its golden images, or against PyTorch.

    Args:
        checkpoint: the file that the bundle was built from. Without it, neither torch nor onnx is needed.
        spec: as in `build`; by default the value of the build.
        module: as in `build`; needed with a checkpoint if the bundle was built with a module.
        weights: as in `build`; by default the value of the build.
        rename: as in `build`; by default the value of the build.
        data: labelled images. With a checkpoint the comparison runs on them instead of on the golden images.
        limits: as in `build`.
        progress: as in `build`.
        warn: called with a sentence for each problem with the images in `data`.

    Raises:
        InputError: the bundle, the checkpoint, an option or the images cannot be used.
        CheckFailed: the bundle gives other results than PyTorch; `checks` holds all checks.
        MissingError: the target is not installed here.
    """
    given = {"spec": spec, "module": module, "weights": weights, "rename": rename, "data": data, "limits": limits}
    return run(path, checkpoint, given, progress=progress, warn=warn)


def run(
    path: AnyPath,
    checkpoint: AnyPath | None,
    given: Mapping[str, Any],
    *,
    progress: Progress = silent,
    warn: Callable[[str], None] = silent,
) -> Validation:
    """Do the same as `validate`. `given` holds the options by name."""
    clock = Clock(progress)
    with clock.stage("bundle"):
        engine = load(path)
        opened, manifest = engine.bundle, engine.manifest
        proof = read_golden(opened)
    options, scores = options_for(manifest, given), recorded(manifest.scores, len(manifest.labels))
    evidence = verdicts.Evidence([(proof.images, proof.logits)], None, proof.images, proof.logits, scores=scores)
    loaded: Checkpoint | None = None
    samples: Samples | None = None
    source = None if checkpoint is None else SourceFile(cache.require_file(Path(checkpoint)), manifest)
    if source is not None:
        require_module(manifest, options)
        with clock.stage("checkpoint"):
            reading.require_libraries()
            with source.explained():
                loaded = reading.load(source.file, options.reading)
                require_same_shapes(loaded, manifest, source.file)
            source.warn_of_another(warn)
            evidence = with_new_logits(evidence, loaded)
            if options.data is not None:
                evidence, samples = on_images(evidence, loaded, manifest, options, warn)
    with clock.stage("checks"):
        evidence = dataclasses.replace(
            evidence,
            int8=engine_or_graph.read_int8_coverage(opened.files, manifest),
            batches=targets.optima(manifest.target, opened.files),
        )
        moved = {**verdicts.moved_limits(manifest.checks, manifest.precision), **options.moved_limits()}
        outcome = verdicts.run_checks(manifest.precision, engine, evidence, max_batch=manifest.max_batch, moved=moved)
        if loaded is None and options.data is not None:
            reason = "not run: without the checkpoint, PyTorch's accuracy is not known"
            outcome = with_reason(outcome, "accuracy_drop", reason)
        smaller = validate_fewer.checks(opened, proof, evidence, loaded, samples, options.moved_limits())
        of_models = (*outcome.checks, *smaller)
        checks = (golden.check_preparation(proof.raw, manifest.preprocessing), *of_models)

    def where() -> str | Bisection:
        if all(importlib.util.find_spec(name) for name in BISECTING):
            from paraexport.checks import bisection

            images, logits = evidence.images, evidence.logits
            culprit = bisection.bisect_failure(
                opened, outcome.checks, images, logits, options=engine_options(opened), progress=progress
            )
            if culprit is not None:
                return culprit
        if loaded is None or source is None:
            return "give the checkpoint as well, to find the first difference"
        if not source.is_the_one:
            return f"the bundle was built from another file: {manifest.source.name}, sha256 {manifest.source.sha256}"
        return blame(loaded, opened.files.at(bundle.MODEL), evidence.images, lowering=manifest.lowering)

    require_preparation(checks, of_models)
    require_fewer_branches(checks, outcome.checks)
    verdicts.require_passed(checks, where)
    accuracy = outcome.accuracy
    if loaded is None and options.data is not None:
        with clock.stage("accuracy"):
            accuracy = accuracy_alone(engine, options, warn)
    return Validation(checks, accuracy)


def require_preparation(checks: Sequence[Check], of_models: Sequence[Check]) -> None:
    """Raise a `CheckFailed` with its own remedy if the models are right and only the preprocessing is not."""
    if any(check.passed is False for check in checks) and all(check.passed is not False for check in of_models):
        remedy = (
            "resize, interpolation, mean or std in the manifest were changed, or Pillow resizes differently; build "
            "the bundle again"
        )
        verdicts.require_passed(checks, lambda: f"images are prepared differently than at the build: {remedy}")


def require_fewer_branches(checks: Sequence[Check], of_whole: Sequence[Check]) -> None:
    """Raise a `CheckFailed` that says so if the model with all branches is right and one with fewer is not."""
    if all(check.passed is not False for check in of_whole):
        what = "only models with fewer branches differ; the model with all branches passed its checks"
        verdicts.require_passed(checks, lambda: what)


def with_reason(outcome: verdicts.Outcome, name: str, reason: str) -> verdicts.Outcome:
    checks = tuple(
        dataclasses.replace(check, reason=reason) if check.name == name else check for check in outcome.checks
    )
    return dataclasses.replace(outcome, checks=checks)


def options_for(manifest: Manifest, given: Mapping[str, Any]) -> Options:
    """Combine the options of the build with those given now."""
    return Options(
        precision=manifest.precision,
        branches=kept_branches(manifest),
        spec={**built_with(manifest), **(given.get("spec") or {})},
        module=given.get("module"),
        weights=given.get("weights") or manifest.source.weights,
        rename=given.get("rename") or dict(manifest.source.renames),
        data=given.get("data"),
        limits=given.get("limits") or {},
    )


def with_new_logits(evidence: verdicts.Evidence, loaded: Checkpoint) -> verdicts.Evidence:
    """Replace the logits of the golden images by those that PyTorch gives now."""
    logits = golden.answers(loaded.original)(evidence.images)
    return dataclasses.replace(evidence, pairs=[(evidence.images, logits)], logits=logits)


def on_images(
    evidence: verdicts.Evidence,
    loaded: Checkpoint,
    manifest: Manifest,
    options: Options,
    warn: Callable[[str], None],
) -> tuple[verdicts.Evidence, Samples]:
    """Replace the golden images by the images of `--data`, with PyTorch's logits. Also return these images."""
    samples, answers = answer_images(golden.answers(loaded.original), manifest, options, warn)
    pairs = image_sets.with_logits(samples, answers.logits, manifest.max_batch)
    return dataclasses.replace(evidence, pairs=pairs, labels=samples.labels), samples


def accuracy_alone(engine: Engine, options: Options, warn: Callable[[str], None]) -> Accuracy | None:
    """Measure top-1 of the bundle on labelled images, without PyTorch."""
    samples, answers = answer_images(engine, engine.manifest, options, warn)
    scores = recorded(engine.manifest.scores, len(engine.manifest.labels))
    if samples.labels is None or scores.kind == "values":
        return None
    correct = int((classes_of(answers.logits, scores) == samples.labels).sum())
    return Accuracy(len(samples), None, correct)


def answer_images(
    model: Callable[[golden.Array], golden.Array], manifest: Manifest, options: Options, warn: Callable[[str], None]
) -> tuple[Samples, image_sets.Answers]:
    """Run a model on the images of `--data`, and warn of what weakens them as evidence."""
    names = class_names(manifest.labels, recorded(manifest.scores, len(manifest.labels)))
    samples = image_sets.open_images(options.images, manifest.preprocessing, names)
    answers = image_sets.answers_of(model, samples, manifest.max_batch)
    judged = image_evidence.without_calibration(samples, answers.variety)
    for line in image_evidence.warnings(judged, answers.logits, manifest):
        # The warnings are about PyTorch's answers; here they may be those of the bundle.
        is_of_bundle = isinstance(model, Engine) and line.startswith("PyTorch")
        warn("the bundle" + line.removeprefix("PyTorch") if is_of_bundle else line)
    return samples, answers
