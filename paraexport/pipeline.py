"""build(): the stages in order, from a checkpoint file to a checked bundle."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from paraexport import __version__, bundle, cache, choose, golden, inputs, report, targets, validate
from paraexport.bundle import Bundle
from paraexport.clock import Clock, Progress, silent
from paraexport.engine import Engine
from paraexport.options import DEFAULT_LAYOUT, Options
from paraexport.spec import Candidate, Manifest, Source

AnyPath = str | os.PathLike[str]
GOLDEN_IMAGES = 16
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
        calib: images without labels. With neither `calib` nor `data` the checks run on made-up images, and say so.
        data: labelled images, for accuracy.
        max_drop: the accuracy that may be lost, in percentage points of top-1.
        limits: other limits for checks by name.
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
    )
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
    with bundle.staging(output, force=force) as folder:
        with clock.stage("trace"):
            from paraexport.trace import trace

            traced = folder.with_name("traced")
            traced.mkdir()
            graph = trace(loaded.module, loaded.classifier, traced / bundle.MODEL)
        with clock.stage("rewrite"):
            from paraexport.rewrite import rewrite

            drafts = {layout: folder.with_name(layout) for layout in options.layouts}
            rewrites = {layout: rewrite(graph.path, layout, draft) for layout, draft in drafts.items()}
        candidates = [(target, layout, draft) for target in possible for layout, draft in drafts.items()]
        timed: tuple[Candidate, ...] = ()
        target, layout, draft = candidates[0]
        if len(candidates) > 1:
            with clock.stage("timing"):
                image = (loaded.classifier.channels, *loaded.classifier.image_size)
                timed = choose.time_candidates(candidates, image, choose.batches_up_to(options.max_batch))
                target, layout, draft = candidates[[one.chosen for one in timed].index(True)]
        shutil.copytree(draft, folder, dirs_exist_ok=True)
        manifest = Manifest(
            format=bundle.FORMAT,
            digest=bundle.NO_DIGEST,
            paraexport=__version__,
            key=key,
            source=Source(source.name, bundle.sha256_of(source), loaded.convention, dict(options.spec), options.module),
            target=target,
            precision=options.precision,
            layout=layout,
            rewrites=rewrites[layout],
            candidates=timed,
            max_batch=options.max_batch,
            inputs=graph.inputs,
            outputs=graph.outputs,
            preprocessing=loaded.preprocessing,
            labels=loaded.labels,
            spec=loaded.spec,
            assumptions=loaded.assumptions + inputs.unused(options),
            evidence=samples.origin,
            checks=(),
            versions=cache.library_versions(),
            files={},
        )
        with clock.stage("golden"):
            pytorch = golden.answers(loaded.original)
            images = samples.pick(GOLDEN_IMAGES)
            logits = pytorch(images)
            golden.write(folder, images, logits, samples.origin)
        with clock.stage("checks"):
            pairs = inputs.with_logits(samples, pytorch, options.max_batch)
            evidence = validate.Evidence(pairs, samples.labels, images, logits)
            engine = Engine(Bundle(folder, manifest))
            outcome = validate.run_checks(
                options.precision, engine, evidence, max_batch=options.max_batch, moved=options.moved_limits()
            )
            validate.require_passed(
                outcome.checks, lambda: inputs.blame(loaded, folder / bundle.MODEL, images, graph.path)
            )
        with clock.stage("bundle"):
            manifest = dataclasses.replace(manifest, checks=outcome.checks)
            made = report.summarise(manifest, samples, outcome.accuracy, clock, graph.export_s)
            report.write(folder, manifest, made, images, logits)
            manifest = bundle.write_manifest(folder, manifest)
    return Bundle(output, manifest)
