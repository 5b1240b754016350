"""Defines build(), which runs the stages in order, from a checkpoint file to a checked bundle."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import warnings as python_warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paraexport import bundle, targets
from paraexport.bundle import Bundle, assembly, report, summary
from paraexport.bundle.records import Source
from paraexport.checkpoint.given import FIELDS
from paraexport.checkpoint.shards import bundle_name, checkpoint_digest, weights_bytes
from paraexport.checks import engine_or_graph, golden, verdicts
from paraexport.checks.blame import blame
from paraexport.errors import BuildWarning, InputError, OutputError, brief
from paraexport.findings.bisection import Bisection
from paraexport.findings.speed import FirstLook
from paraexport.model.spec import Classifier
from paraexport.page import report as page
from paraexport.pipeline import (
    answer_report,
    assumptions,
    cache,
    candidates,
    fewer_branches,
    images,
    open_fields,
    reading,
    selection,
)
from paraexport.pipeline.command_line import command_line
from paraexport.pipeline.options import Options, Reading
from paraexport.pipeline.pytorch_run import run_pytorch
from paraexport.system.claim import Claim, claim
from paraexport.system.files import without_dots
from paraexport.system.plain_paths import name_of, plain, readable
from paraexport.targets.folder import Folder, model_bytes
from paraexport.timing.clock import Clock, Progress, silent

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint

AnyPath = str | os.PathLike[str]
UNCHANGED = "unchanged"
"""The only stage of a build that finds its bundle up to date."""


def build(
    checkpoint: AnyPath,
    output: AnyPath | None = None,
    options: Options | None = None,
    *,
    force: bool = False,
    progress: Progress = silent,
    warn: Callable[[str], None] | None = None,
    **changes: Any,
) -> Bundle:
    """Build the bundle `output` from `checkpoint`, or return the existing one if nothing has changed.

    Every field of `Options` may also be given as a keyword: `build("model.pt", precision="int8", calib="photos")`.

    Args:
        output: the bundle's folder; by default the checkpoint's name with `.bundle`, in the current folder.
        options: what to build; by default `Options()`.
        force: build again, and replace an existing bundle.
        progress: called with the name of each stage when it begins.
        warn: called with a sentence for each assumption, and for each reason to trust the checks less. By default,
            they are Python warnings of the class `paraexport.errors.BuildWarning`.
        changes: fields of `Options` that override those in `options`.

    Raises:
        InputError: the checkpoint, an option, the images or the output cannot be used.
        CheckFailed: the model does not give the results of PyTorch; nothing is written to `output`.
        MissingError: the target is not installed here.
    """
    refuse_unknown(changes)
    options = dataclasses.replace(options or Options(), **changes)
    options.require_calibration()
    source = Path(checkpoint)
    path = Path(output) if output is not None else Path(bundle_name(source))
    built = run(source, path, options, force, progress)
    for text in summary.caution_texts(report.read(built.files)):
        if warn is not None:
            warn(text)
        else:
            python_warnings.warn(text, BuildWarning, stacklevel=2)
    return built


def refuse_unknown(changes: Mapping[str, object]) -> None:
    """Raise an `InputError` for a keyword that is no option, or for a `spec` that is no mapping."""
    names = {field.name for field in dataclasses.fields(Options)}
    for name, value in changes.items():
        if name not in names:
            remedy = (
                f"write spec={{{name!r}: {value!r}}}"
                if name in FIELDS
                else f"the options are {', '.join(sorted(names))}"
            )
            raise InputError("unknown option of build", where=name, remedy=remedy)
        if name in ("spec", "rename", "limits") and not isinstance(value, Mapping):
            expected = "a dict such as {'heads': 4}" if name == "spec" else "a dict"
            raise InputError("invalid value", where=name, expected=expected, got=brief(value))


def run(source: Path, output: Path, options: Options, force: bool, progress: Progress) -> Bundle:
    """Reuse the existing bundle, or build it. If two processes build the same bundle, the second reuses the first's."""
    output = without_dots(output)
    source = cache.require_file(source)
    cache.refuse_junk(None if options.module else source, options.files().values())
    key = cache.build_key(source, options.settings(), options.files())
    # The code of a module may read any file, so no key can be complete.
    reusable = not force and options.module is None
    if reusable and (ready := cache.up_to_date(output, key)):
        progress(UNCHANGED)
        return ready
    try:
        bundle.check_replaceable(output, force=force)
    except OutputError:
        refuse_mistakes(source, options)
        raise
    with claim(output, lambda: progress(f"waiting for another build of {output}")) as claimed:
        if reusable and claimed.waited and (ready := cache.up_to_date(output, key)):
            progress(UNCHANGED)
            return ready
        bundle.check_replaceable(output, force=force)
        built = run_stages(source, claimed, key, options, force=force, progress=progress)
    return dataclasses.replace(built, path=output)


def refuse_mistakes(source: Path, options: Options) -> None:
    """Raise the error of a wrong option, which helps more than the one about the output."""
    _ = options.targets
    reading.require_libraries()
    reading.load(source, options.reading)


def run_stages(  # noqa: PLR0915
    source: Path, claimed: Claim, key: str, options: Options, *, force: bool, progress: Progress
) -> Bundle:
    """Run the stages of a build in order."""
    clock, possible = Clock(progress), options.targets
    reading.require_libraries()
    with clock.stage("checkpoint"):
        loaded = open_fields.load(source, options.reading, options.images, options.max_batch, progress)
    require_possible_batch(loaded.classifier, options.max_batch)
    with clock.stage("images"):
        samples, calibration = images.open_all(options.images, loaded)
        skipped = images.skipped_of(calibration) if options.images.separate else ()
        loaded, samples = images.with_folder_names(loaded, samples)
    with clock.stage("PyTorch"):
        fewer = fewer_branches.counts(loaded, options)
        pytorch = run_pytorch(loaded, samples, calibration, options, progress, fewer)
        shown, logits = pytorch.golden
    with bundle.staging(claimed.output, force=force, claimed=claimed) as staged:
        folder = plain(staged.parent) / staged.name
        with clock.stage("trace"):
            graph = reading.traced(loaded, folder.with_name("traced"))
        scores, assumed = assumptions.settle_outputs(loaded, options.reading, graph.ending, pytorch.answers.logits)
        loaded = reading.without_modules(loaded, options.reading)
        with clock.stage("rewrite" if options.precision == "fp32" else f"rewrite, {options.precision}"):
            judged = candidates.Images(calibration, samples, pytorch.answers.logits, scores)
            written = candidates.write(graph.path, options, possible, folder.parent, judged, progress=progress)
        written = candidates.compile_engines(written, options, clock)
        with clock.stage("timing") if len(written) > 1 else contextlib.nullcontext():
            image = (loaded.classifier.channels, *loaded.classifier.image_size)
            workload = targets.Workload(image=image, max_batch=options.max_batch, precision=options.precision)
            chosen, times = selection.fastest(selection.most_accurate(written, judged, workload), workload)
        shutil.copytree(chosen.folder, folder, dirs_exist_ok=True)
        smaller = fewer_branches.add(graph.path, chosen, options, judged, pytorch.first, folder, progress=progress)
        runtime = targets.get(chosen.target).runtime(Folder(folder), workload, reading.opset(folder / bundle.MODEL))
        manifest = assembly.assemble(
            key=key,
            source=source_record(source, loaded, options.reading),
            precision=options.precision,
            max_batch=options.max_batch,
            runtime=runtime,
            chosen=chosen,
            candidates=times,
            smaller=smaller,
            graph=graph,
            checkpoint=loaded,
            scores=scores,
            assumptions=(
                *(*loaded.assumptions, *assumed),
                *assumptions.about_layout(options),
                *assumptions.about_precision(options.images, calibration, pytorch.evidence.distinct, chosen.target),
            ),
            evidence=pytorch.evidence.text,
            versions=cache.library_versions(),
        )
        fewer_branches.add_metadata(folder, manifest)
        with clock.stage("golden"):
            golden.write(folder, shown, logits, samples.origin, pytorch.raw, pytorch.golden_first)
        with clock.stage("checks"):
            built = Bundle(folder, manifest)
            evidence = images.evidence(samples, pytorch.answers, pytorch.golden, manifest)
            outcome = engine_or_graph.run_checks(built, evidence, options.moved_limits())

            def where() -> str | Bisection:
                from paraexport.checks import bisection

                culprit = bisection.bisect_failure(
                    built, outcome.checks, shown, logits, options=options.engine, progress=progress
                )
                original = reading.with_modules(loaded, source, options.reading)
                return culprit or blame(original, folder / bundle.MODEL, shown, graph.path, chosen.lowering)

            verdicts.require_passed(outcome.checks, where)
            checked = fewer_branches.check(built, samples, pytorch, options)
        with clock.stage("report"):
            compared = answer_report.answer_report(samples, pytorch.answers.logits, outcome.comparison, manifest)
            costs = reading.costs(graph, folder / bundle.MODEL)
        with clock.stage("bundle"):
            manifest = dataclasses.replace(manifest, checks=outcome.checks, fewer_branches=checked.models)
            build_report = report.summarise(
                manifest,
                samples,
                outcome.accuracy,
                clock,
                graph.export_s,
                chosen.engine,
                (*pytorch.warnings(manifest), *skipped),
                FirstLook(
                    weights_bytes(source),
                    model_bytes(Folder(folder), runtime.file),
                    pytorch.latency_ms,
                    outcome.latency_ms,
                ),
                fewer_branches.completed(
                    pytorch.branches, manifest, folder, {None: outcome.latency_ms, **checked.latency_ms}, costs
                ),
                name=readable(name_of(claimed.output)),
                command=command_line(source, claimed.output, options),
                answers=compared,
                costs=costs,
            )
            page.write(folder, build_report)
            manifest = bundle.write_manifest(folder, manifest)
    return Bundle(claimed.output, manifest)


def require_possible_batch(model: Classifier, max_batch: int) -> None:
    most = bundle.most_images([model.channels, *model.image_size])
    if max_batch > most:
        raise InputError(
            "too many images of this size for one batch",
            where="--max-batch",
            expected=f"at most {most} images of {model.channels} x {' x '.join(map(str, model.image_size))}",
            got=max_batch,
            remedy="give a lower --max-batch: larger inputs are split",
        )


def source_record(source: Path, loaded: Checkpoint, given: Reading) -> Source:
    """Describe the checkpoint for the manifest."""
    spec = {readable(name): readable(value) for name, value in given.spec.items()}
    if "labels" in spec:
        spec["labels"] = name_of(Path(spec["labels"]))
    # Only the name: on another machine, the full path might lead to other code, which must not run.
    module = None if given.module is None else readable(name_of(Path(given.module)))
    return Source(
        name=readable(source.name),
        sha256=checkpoint_digest(source),
        convention=loaded.convention,
        overrides=spec,
        module=module,
        weights=given.weights,
        renames=tuple((readable(old), readable(new)) for old, new in given.rename.items()),
        branches=loaded.branches,
    )
