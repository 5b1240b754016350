"""build(): the stages in order, from a checkpoint file to a checked bundle."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from paraexport import __version__, ahead, bundle, cache, drafts, golden, inputs, report, targets, validate
from paraexport.bundle import Bundle
from paraexport.clock import Clock, Progress, silent
from paraexport.compilation import EngineOptions
from paraexport.faults import Bisection
from paraexport.options import AUTO, DEFAULT_LAYOUT, Options
from paraexport.plain_paths import plain, readable
from paraexport.records import Manifest, Source

AnyPath = str | os.PathLike[str]
GOLDEN_IMAGES = 16
NO_OPTIONS = EngineOptions()
UNCHANGED = "unchanged"
"""The one stage of a build that had nothing to do."""


def build(
    checkpoint: AnyPath,
    output: AnyPath | None = None,
    *,
    target: str = targets.DEFAULT,
    precision: str = "fp32",
    layout: str = DEFAULT_LAYOUT,
    branches: int | None = None,
    spec: Mapping[str, str] | None = None,
    module: str | None = None,
    max_batch: int = 64,
    calib: AnyPath | None = None,
    data: AnyPath | None = None,
    max_drop: float | None = None,
    limits: Mapping[str, float] | None = None,
    calibrator: str = AUTO,
    keep: Sequence[str] = (),
    equalise: bool = True,
    engine: EngineOptions = NO_OPTIONS,
    force: bool = False,
    progress: Progress = silent,
) -> Bundle:
    """Build the bundle `output` from `checkpoint`, or return the one that is there if nothing has changed.

    Args:
        output: the bundle's folder; by default the checkpoint's name with `.bundle`, in the current folder.
        target: where it is to run; `auto` times those that are installed and takes the fastest.
        layout: how the graph is arranged, with the same answers; `auto` times all on the target.
        branches: keep the first so many branches only.
        spec: fields of the spec that the checkpoint leaves open, as text: `{"heads": "3"}`.
        module: `FILE.py:FUNCTION`, which returns the module to export; its code is run.
        max_batch: images in one run of the engine; a larger input is split.
        calib: images without labels, which int8 finds its scales on. With neither `calib` nor `data` the checks run on
            made-up images, and say so.
        data: labelled images, for accuracy.
        max_drop: the accuracy that may be lost, in percentage points of top-1; int8 keeps the fewest parts in float32
            with which no more is. Without `data`: % of the images of `calib` that may be answered otherwise.
        limits: other limits for checks by name.
        calibrator: how int8 finds its scales: `minmax`, `mse`, `percentile`, `entropy`; `auto` takes the better of the
            first two.
        keep: parts that stay in float32 in int8: `branches.3`, `branches.3/layers.1`.
        equalise: scale value channels before int8, which is exact.
        engine: how the TensorRT targets compile.
        force: build again, and replace a bundle that is there.
        progress: called with the name of each stage when it begins.

    Raises:
        InputError: the checkpoint, an option, the images or the output cannot be used.
        CheckFailed: the artefact does not answer as PyTorch does; nothing is left at `output`.
        MissingError: the target is not installed here.
    """
    options = Options(
        target=target,
        precision=precision,
        layout=layout,
        branches=branches,
        spec=spec or {},
        module=module,
        max_batch=max_batch,
        calib=None if calib is None else Path(calib),
        data=None if data is None else Path(data),
        max_drop=max_drop,
        limits=limits or {},
        calibrator=calibrator,
        keep=tuple(keep),
        equalise=equalise,
        engine=engine,
    )
    options.require_calibration()
    source = Path(checkpoint)
    return run(source, Path(output) if output is not None else Path(f"{source.stem}.bundle"), options, force, progress)


def run(source: Path, output: Path, options: Options, force: bool, progress: Progress) -> Bundle:
    clock = Clock(progress)
    cache.require_file(source)
    key = cache.build_key(source, options.settings(), options.files())
    # A module's own code may read anything, so that no key over files can be complete.
    if not force and options.module is None and (ready := cache.up_to_date(output, key)):
        progress(UNCHANGED)
        return ready
    bundle.check_output(output, force=force)
    possible = options.targets
    inputs.require_libraries()
    with clock.stage("checkpoint"):
        loaded = inputs.load(source, options)
    with clock.stage("images"):
        samples = inputs.open_images(options, loaded.preprocessing, loaded.labels)
        calibration = inputs.open_calibration(options, loaded.preprocessing, samples)
    with clock.stage("PyTorch"):
        pytorch = golden.answers(loaded.original)
        answered = inputs.answers_to(samples, pytorch, options.max_batch)
    with bundle.staging(output, force=force) as staged:
        folder = plain(staged.parent) / staged.name
        with clock.stage("trace"):
            from paraexport.trace import trace

            traced = folder.with_name("traced")
            traced.mkdir()
            graph = trace(loaded.module, loaded.classifier, traced / bundle.MODEL)
        with clock.stage("rewrite" if options.precision == "fp32" else f"rewrite, {options.precision}"):
            images = drafts.Images(calibration, samples, answered)
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
            spec=loaded.spec,
            assumptions=loaded.assumptions + inputs.said_aloud(options, calibration, draft.target),
            evidence=samples.origin,
            checks=(),
            versions=cache.library_versions(),
            files={},
        )
        with clock.stage("golden"):
            seen = samples.pick(GOLDEN_IMAGES)
            logits = pytorch(seen)
            golden.write(folder, seen, logits, samples.origin)
        with clock.stage("checks"):
            pairs = inputs.with_logits(samples, answered, options.max_batch)
            rounding = manifest.lowering.rounding if manifest.lowering else None
            outcome = ahead.run_checks(
                Bundle(folder, manifest),
                validate.Evidence(pairs, samples.labels, seen, logits, rounding=rounding),
                lambda: inputs.read_back(folder, manifest),
                options.moved_limits(),
            )

            def where() -> str | Bisection:
                from paraexport import bisection

                found = bisection.of_failure(
                    Bundle(folder, manifest), outcome.checks, seen, logits, options=options.engine, progress=progress
                )
                return found or inputs.blame(loaded, folder / bundle.MODEL, seen, graph.path, draft.lowering)

            validate.require_passed(outcome.checks, where)
        with clock.stage("bundle"):
            manifest = dataclasses.replace(manifest, checks=outcome.checks)
            found = report.summarise(manifest, samples, outcome.accuracy, clock, graph.export_s, engine=draft.engine)
            report.write(folder, manifest, found, seen, logits)
            manifest = bundle.write_manifest(folder, manifest)
    return Bundle(output, manifest)


def origin_of(source: Path, convention: str, options: Options) -> Source:
    """What the manifest says of the checkpoint."""
    spec = {readable(name): readable(value) for name, value in options.spec.items()}
    module = None if options.module is None else readable(options.module)
    return Source(readable(source.name), bundle.sha256_of(source), convention, spec, module)
