"""validate(): run the checks of a bundle again, with or without PyTorch."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from paraexport import bundle, targets
from paraexport.bundle import report
from paraexport.bundle.records import Manifest
from paraexport.checkpoint.shards import checkpoint_digest
from paraexport.checks import engine_or_graph, golden, verdicts
from paraexport.checks.blame import blame
from paraexport.checks.comparison import Pair
from paraexport.checks.limits import LIMITS
from paraexport.engine import load
from paraexport.errors import BundleError, InputError, MissingError
from paraexport.findings.bisection import Bisection
from paraexport.findings.checks import Check
from paraexport.model.scores import class_names, recorded
from paraexport.pipeline import cache, image_evidence, reading
from paraexport.pipeline import images as image_sets
from paraexport.pipeline.options import Options
from paraexport.targets.compilation import EngineOptions
from paraexport.timing.clock import Clock, Progress, silent

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint

AnyPath = str | os.PathLike[str]
BISECTING = ("onnx", "onnx_ir", "onnxruntime")
"""What it takes to cut a graph and to run it node by node."""


def validate(
    path: AnyPath,
    checkpoint: AnyPath | None = None,
    *,
    spec: Mapping[str, str] | None = None,
    module: str | None = None,
    weights: str | None = None,
    data: AnyPath | None = None,
    limits: Mapping[str, float] | None = None,
    progress: Progress = silent,
    warn: Callable[[str], None] = silent,
) -> tuple[Check, ...]:
    """Check the bundle at `path` again: against the stored logits of its golden images, or PyTorch's own now.

    Args:
        checkpoint: what the bundle was built from. Without it neither torch nor onnx is needed.
        spec: as in `build`; by default what the bundle was built with.
        module: as in `build`; by default what the bundle was built with.
        weights: as in `build`; by default what the bundle was built with.
        data: labelled images to compare on, instead of the golden ones; needs `checkpoint`.
        limits: as in `build`.
        progress: as in `build`.
        warn: called with each sentence on what weakens the checks on `data`.

    Raises:
        InputError: the bundle, the checkpoint, an option or the images cannot be used.
        CheckFailed: the bundle does not answer as PyTorch does; `checks` holds all of them.
        MissingError: the target is not installed here.
    """
    clock = Clock(progress)
    with clock.stage("bundle"):
        engine = load(path)
        opened, manifest = engine.bundle, engine.manifest
        images, logits = golden_of(opened)
    options = Options(
        precision=manifest.precision,
        branches=manifest.spec.branches if manifest.spec else None,
        spec={**built_with(manifest), **(spec or {})},
        module=module or manifest.source.module,
        weights=weights or manifest.source.weights,
        data=None if data is None else Path(data),
        limits=limits or {},
    )
    scores = recorded(manifest.scores, len(manifest.labels))
    evidence = verdicts.Evidence([(images, logits)], None, images, logits, scores=scores)
    loaded: Checkpoint | None = None
    if checkpoint is not None:
        with clock.stage("checkpoint"):
            checkpoint = cache.require_file(Path(checkpoint))
            reading.require_libraries()
            with known_source(manifest, Path(checkpoint)):
                loaded = reading.load(Path(checkpoint), options.reading)
                require_same_shapes(loaded, manifest, Path(checkpoint))
            pytorch = golden.answers(loaded.original)
            logits = pytorch(images)
            evidence = dataclasses.replace(evidence, pairs=[(images, logits)], logits=logits)
            if options.data is not None:
                samples = image_sets.open_images(
                    options.images, manifest.preprocessing, class_names(manifest.labels, scores)
                )
                answers = image_sets.ask(loaded, samples, manifest.max_batch)
                judged = image_evidence.without_calibration(samples, answers.variety)
                for line in image_evidence.warnings(judged, answers.logits, manifest):
                    warn(line)
                pairs = image_sets.with_logits(samples, answers.logits, manifest.max_batch)
                evidence = dataclasses.replace(evidence, pairs=pairs, labels=samples.labels)
    elif options.data is not None:
        raise InputError(
            "PyTorch's answers are needed to compare with", where="--data", remedy="give the checkpoint too"
        )
    with clock.stage("checks"):
        int8, optima = (
            engine_or_graph.read_int8_coverage(opened.files, manifest),
            targets.optima(manifest.target, opened.files),
        )
        evidence = dataclasses.replace(evidence, int8=int8, batches=optima)
        checks = verdicts.run_checks(
            manifest.precision,
            engine,
            evidence,
            max_batch=manifest.max_batch,
            moved={**verdicts.moved_limits(manifest.checks, manifest.precision), **options.moved_limits()},
        ).checks

    def where() -> str | Bisection:
        if all(importlib.util.find_spec(name) for name in BISECTING):
            from paraexport.checks import bisection

            found = bisection.bisect_failure(
                opened, checks, images, logits, options=engine_options(opened), progress=progress
            )
            if found is not None:
                return found
        if loaded is None:
            return "give the checkpoint too, to see where the first difference is"
        if not is_source(manifest, Path(str(checkpoint))):
            return f"the bundle was built from another file: {manifest.source.name}, sha256 {manifest.source.sha256}"
        return blame(loaded, opened.files.at(bundle.MODEL), images, lowering=manifest.lowering)

    verdicts.require_passed(checks, where)
    return checks


def is_source(manifest: Manifest, checkpoint: Path) -> bool:
    """Whether the bundle was built from this very file."""
    return checkpoint_digest(checkpoint) == manifest.source.sha256


@contextlib.contextmanager
def known_source(manifest: Manifest, checkpoint: Path) -> Iterator[None]:
    """Say of a checkpoint that does not fit the bundle whether it is the one that the bundle was built from."""
    try:
        yield
    except InputError as error:
        source = manifest.source
        if source.module is not None or is_source(manifest, checkpoint):
            raise
        raise InputError(
            "not the checkpoint that the bundle was built from",
            where=checkpoint,
            expected=f"{source.name}, sha256 {source.sha256}",
            got=error,
        ) from error


def bisect(path: AnyPath, *, limits: Mapping[str, float] | None = None, progress: Progress = silent) -> Bisection:
    """Run every part of the bundle at `path` alone on its target, beside the graph node by node, on the golden images.

    Args:
        limits: as in `build`; that of `parity` is from where on a part is off.

    Raises:
        InputError: the bundle cannot be used.
        MissingError: the target is not installed here, its engine cannot run here, or a library is missing.
    """
    opened = bundle.read_bundle(Path(path))
    if missing := [name for name in BISECTING if importlib.util.find_spec(name) is None]:
        raise MissingError(f"--bisect needs {', '.join(missing)}", remedy="pip install 'paraexport[build]'")
    from paraexport.checks import bisection

    usual = {name: one.value for name, one in LIMITS[opened.manifest.precision].items()}
    then = {one.name: one.limit for one in opened.manifest.checks}
    limit = {**usual, **then, **(limits or {})}[bisection.PARITY]
    images, _ = golden_of(opened)
    return bisection.bisect(opened, images, limit=limit, options=engine_options(opened), progress=progress)


def golden_of(opened: bundle.Bundle) -> Pair:
    """The golden images [n, C, H, W] and logits [n, classes] of a bundle.

    Raises:
        BundleError: they are not there, or not of this model.
    """
    images, logits = golden.read(opened.files)
    shapes = [list(side[0].shape[1:]) for side in (opened.manifest.inputs, opened.manifest.outputs)]
    got = [list(images.shape[1:]), list(logits.shape[1:])]
    if got != shapes:
        where = opened.path / golden.FILE
        raise BundleError("the golden file is of another model", where=where, expected=shapes, got=got)
    return images, logits


def engine_options(opened: bundle.Bundle) -> EngineOptions:
    """How its engine was compiled."""
    engine = report.read(opened.files).engine
    return EngineOptions() if engine is None else engine.options


def built_with(manifest: Manifest) -> dict[str, str]:
    """The `--spec` options of the build, but for the file of labels: these are in the manifest, and it may be gone."""
    return {name: value for name, value in manifest.source.overrides.items() if name != "labels"}


def require_same_shapes(loaded: Checkpoint, manifest: Manifest, checkpoint: Path) -> None:
    model = loaded.classifier
    got = ([model.channels, *model.image_size], model.classes)
    expected = (list(manifest.inputs[0].shape[1:]), manifest.outputs[0].shape[1])
    if got != expected:
        raise InputError(
            "the checkpoint is of another model than the bundle",
            where=checkpoint,
            expected=f"images {expected[0]} and {expected[1]} classes",
            got=f"images {got[0]} and {got[1]} classes",
        )
