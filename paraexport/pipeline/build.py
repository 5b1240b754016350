"""build(): the stages in order, from a checkpoint file to a checked bundle."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

from paraexport import __version__, bundle, targets
from paraexport.bundle import Bundle, report
from paraexport.bundle.records import Manifest, Source
from paraexport.checkpoint.shards import bundle_name, checkpoint_digest
from paraexport.checks import ahead, golden, validate
from paraexport.errors import InputError
from paraexport.findings.bisection import Bisection
from paraexport.images.variety import Watch
from paraexport.model.spec import Classifier
from paraexport.pipeline import cache, drafts, image_evidence, inputs
from paraexport.pipeline.options import Options
from paraexport.system.claim import Claim, claim
from paraexport.system.files import without_dots
from paraexport.system.plain_paths import plain, readable
from paraexport.targets.folder import Folder
from paraexport.timing.clock import Clock, Progress, silent

AnyPath = str | os.PathLike[str]
GOLDEN_IMAGES = 16
UNCHANGED = "unchanged"
"""The one stage of a build that had nothing to do."""


def build(
    checkpoint: AnyPath,
    output: AnyPath | None = None,
    options: Options | None = None,
    *,
    force: bool = False,
    progress: Progress = silent,
    **changes: Any,
) -> Bundle:
    """Build the bundle `output` from `checkpoint`, or return the one that is there if nothing has changed.

    Every field of `Options` may also be given as a keyword: `build("model.pt", precision="int8", calib="photos")`.

    Args:
        output: the bundle's folder; by default the checkpoint's name with `.bundle`, in the current folder.
        options: what to build; by default `Options()`.
        force: build again, and replace a bundle that is there.
        progress: called with the name of each stage when it begins.
        changes: fields of `Options`, in place of those in `options`.

    Raises:
        InputError: the checkpoint, an option, the images or the output cannot be used.
        CheckFailed: the artefact does not give the answers of PyTorch; nothing is left at `output`.
        MissingError: the target is not installed here.
    """
    options = dataclasses.replace(options or Options(), **changes)
    options.require_calibration()
    source = Path(checkpoint)
    return run(source, Path(output) if output is not None else Path(bundle_name(source)), options, force, progress)


def run(source: Path, output: Path, options: Options, force: bool, progress: Progress) -> Bundle:
    """Reuse the bundle that is there, or make it; of two processes that make the same one, the second reuses it."""
    output = without_dots(output)
    source = cache.require_file(source)
    key = cache.build_key(source, options.settings(), options.files())
    # A module's own code may read anything, so that no key over files can be complete.
    reusable = not force and options.module is None
    if reusable and (ready := cache.up_to_date(output, key)):
        progress(UNCHANGED)
        return ready
    bundle.check_replaceable(output, force=force)
    with claim(output, lambda: progress(f"waiting for another build of {output}")) as claimed:
        if reusable and claimed.waited and (ready := cache.up_to_date(output, key)):
            progress(UNCHANGED)
            return ready
        bundle.check_replaceable(output, force=force)
        made = make(source, claimed, key, options, force=force, progress=progress)
    return dataclasses.replace(made, path=output)


def make(source: Path, claimed: Claim, key: str, options: Options, *, force: bool, progress: Progress) -> Bundle:
    clock, output = Clock(progress), claimed.output
    possible = options.targets
    inputs.require_libraries()
    with clock.stage("checkpoint"):
        loaded = inputs.load(source, options)
    require_possible_batch(loaded.classifier, options.max_batch)
    with clock.stage("images"):
        samples, calibration = inputs.open_all(options, loaded)
    with clock.stage("PyTorch"):
        pytorch, watch = golden.answers(loaded.original), Watch()
        answered = inputs.answers_to(samples, pytorch, options.max_batch, watch)
        looked = image_evidence.look(samples, watch.variety(), calibration, options, loaded.preprocessing.std)
        shown = samples.at(looked.variety.firsts(GOLDEN_IMAGES))
        logits = pytorch(shown)
    with bundle.staging(output, force=force, claimed=claimed) as staged:
        folder = plain(staged.parent) / staged.name
        with clock.stage("trace"):
            graph = inputs.traced(loaded, folder.with_name("traced"))
        scores, assumed = inputs.scores_of(loaded, options, graph.ending, answered)
        loaded = inputs.let_go(loaded, options)
        with clock.stage("rewrite" if options.precision == "fp32" else f"rewrite, {options.precision}"):
            images = drafts.Images(calibration, samples, answered, scores)
            made = drafts.make(graph.path, options, possible, folder.parent, images)
        made = drafts.compiled(made, options, clock)
        with clock.stage("timing") if len(made) > 1 else contextlib.nullcontext():
            image = (loaded.classifier.channels, *loaded.classifier.image_size)
            workload = targets.Workload(image=image, max_batch=options.max_batch, precision=options.precision)
            draft, timed = drafts.fastest(drafts.accurate(made, images, workload), workload)
        shutil.copytree(draft.folder, folder, dirs_exist_ok=True)
        manifest = Manifest(
            format=bundle.FORMAT,
            digest=bundle.NO_DIGEST,
            paraexport=__version__,
            key=key,
            source=origin_of(source, loaded.convention, options),
            target=draft.target,
            precision=options.precision,
            layout=draft.layout,
            rewrites=draft.rewrites,
            lowering=draft.lowering,
            candidates=timed,
            max_batch=options.max_batch,
            inputs=graph.inputs,
            outputs=graph.outputs,
            preprocessing=loaded.preprocessing,
            labels=loaded.labels,
            scores=scores,
            spec=loaded.spec,
            assumptions=(
                *(*loaded.assumptions, *assumed),
                *inputs.said_aloud(options, calibration, looked.distinct, draft.target),
            ),
            evidence=looked.evidence,
            checks=(),
            versions=cache.library_versions(),
            files={},
        )
        with clock.stage("golden"):
            golden.write(folder, shown, logits, samples.origin)
        with clock.stage("checks"):
            pairs = inputs.with_logits(samples, answered, options.max_batch)
            rounding = manifest.lowering.rounding if manifest.lowering else None
            outcome = ahead.run_checks(
                Bundle(folder, manifest),
                validate.Evidence(pairs, samples.labels, shown, logits, rounding=rounding, scores=scores),
                lambda: inputs.read_back(Folder(folder), manifest),
                options.moved_limits(),
            )

            def where() -> str | Bisection:
                from paraexport.checks import bisection

                found = bisection.of_failure(
                    Bundle(folder, manifest), outcome.checks, shown, logits, options=options.engine, progress=progress
                )
                return found or inputs.blame(
                    inputs.load_again(loaded, source, options), folder / bundle.MODEL, shown, graph.path, draft.lowering
                )

            validate.require_passed(outcome.checks, where)
        with clock.stage("bundle"):
            manifest = dataclasses.replace(manifest, checks=outcome.checks)
            warnings = image_evidence.warnings(looked, answered, manifest)
            summary = report.summarise(
                manifest, samples, outcome.accuracy, clock, graph.export_s, draft.engine, warnings
            )
            report.write(folder, manifest, summary, shown, logits)
            manifest = bundle.write_manifest(folder, manifest)
    return Bundle(output, manifest)


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


def origin_of(source: Path, convention: str, options: Options) -> Source:
    """What the manifest says of the checkpoint."""
    spec = {readable(name): readable(value) for name, value in options.spec.items()}
    module = None if options.module is None else readable(options.module)
    return Source(
        name=readable(source.name),
        sha256=checkpoint_digest(source),
        convention=convention,
        overrides=spec,
        module=module,
        weights=options.weights,
    )
