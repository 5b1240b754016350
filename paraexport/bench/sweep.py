"""Defines sweep(), which measures a bundle with its first 1, 2, … branches, and finds how many are enough."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from paraexport.bench import worker
from paraexport.bench.bench import Settings, bundle_row, contestant, measure, require_comparable
from paraexport.bench.rows import Row
from paraexport.bundle import Bundle, read_bundle, report
from paraexport.checks import golden
from paraexport.engine import Engine
from paraexport.errors import InputError
from paraexport.findings.branches import FirstBranches
from paraexport.findings.words import counted
from paraexport.model.scores import classes_of, recorded
from paraexport.pipeline.validate import answer_images, options_for
from paraexport.timing.clock import Progress, silent

LONGEST_S, WINDOW_S = 30.0, 0.3
"""All windows together take about this long, even if latencies are unstable; one window with its pauses."""
FEWEST_WINDOWS = 5
MAX_DROP = 0.5
"""Percentage points. The default of `--max-drop`."""
VALUES = "the outputs are values, not classes, so only the times are compared"
"""The conclusion for a model without classes."""


@dataclass(frozen=True)
class Quality:
    """How good the answers with some branches are, in percent. None if it was not measured."""

    accuracy: float | None
    agreement: float | None
    """Images with the same answer as from all branches."""


@dataclass(frozen=True)
class Sweep:
    """The rows of a sweep and its result."""

    rows: tuple[Row, ...]
    enough: int | None
    """The smallest number of branches within `max_drop`; None if the quality was not measured."""
    max_drop: float
    """Percentage points of top-1; without labels, percent of images with another answer than from all branches."""
    conclusion: str


def sweep(
    path: Path,
    settings: Settings,
    *,
    data: Path | None = None,
    max_drop: float = MAX_DROP,
    progress: Progress = silent,
    warn: Callable[[str], None] = silent,
) -> Sweep:
    """Time the bundle at `path` with every number of branches that it holds, and compare the answers.

    Args:
        data: labelled images. Without them, accuracy and agreement are those that the build measured with PyTorch.
        warn: called with a sentence for each problem with the images.

    Raises:
        InputError: the bundle holds one number of branches only, or the batch or the images do not fit.
    """
    bundle = read_bundle(path)
    counts = held(bundle)
    batches = settings.batches or (1,)
    require_comparable([bundle], batches)
    of_build = first_of_build(bundle)
    if data is None:
        qualities = measured_by_build(of_build, counts)
    else:
        progress("answers with every number of branches")
        qualities = measured_here(bundle, counts, data, warn)
    whole = counts[-1]
    with tempfile.TemporaryDirectory() as temporary:
        images = Path(temporary) / "images.npy"
        np.save(images, golden.read(bundle.files)[0])
        contestants, rows = [], {}
        row = bundle_row("", bundle, settings)
        for count in (whole, *counts[:-1]):  # the others are compared with the first contestant
            name = counted(count, "branch")
            job = worker.Job(worker.BUNDLE, str(path), str(images), batches, settings.threads, branches=count)
            contestants.append(contestant(name, job))
            rows[name] = replace(
                row,
                name=name,
                branches=count,
                size_bytes=of_build[count].model_bytes if count in of_build else None,
                multiply_adds=of_build[count].multiply_adds if count in of_build else None,
                accuracy=qualities[count].accuracy,
                agreement=qualities[count].agreement,
            )
        most_windows = int(LONGEST_S / (WINDOW_S * len(counts) * len(batches)))
        settings = replace(settings, most_windows=max(FEWEST_WINDOWS, min(most_windows, settings.most_windows)))
        measured = measure(contestants, rows, batches, settings, progress)
    ordered = sorted(measured, key=lambda row: (row.batch, row.branches or 0))
    enough = smallest(qualities, whole, max_drop)
    has_classes = recorded(bundle.manifest.scores, len(bundle.manifest.labels)).kind != "values"
    text = conclusion(qualities, whole, enough, max_drop) if has_classes else VALUES
    return Sweep(tuple(ordered), enough, max_drop, text)


def held(bundle: Bundle) -> list[int]:
    """Return the numbers of branches that the bundle holds, ascending.

    Raises:
        InputError: only one.
    """
    manifest = bundle.manifest
    if manifest.spec is None or not manifest.fewer_branches:
        what, remedy = "the bundle has no models with fewer branches", "build it with --branches-at-load all"
        if manifest.spec is None:
            what = "the module was not recognised as a Para-Former, so it has no branches to leave out"
        elif manifest.spec.branches == 1:
            what = "the model has only 1 branch, so there is none to leave out"
        can_build = manifest.spec is not None and manifest.spec.branches > 1
        raise InputError(what, where=bundle.path, remedy=remedy if can_build else None)
    return [*(model.branches for model in manifest.fewer_branches), manifest.spec.branches]


def first_of_build(bundle: Bundle) -> dict[int, FirstBranches]:
    """What the build measured of the first branches, by their number; empty if it measured nothing."""
    branches = report.read(bundle.files).branches
    return {first.branches: first for first in branches.first} if branches else {}


def measured_by_build(of_build: Mapping[int, FirstBranches], counts: Sequence[int]) -> dict[int, Quality]:
    return {
        count: Quality(percent(of_build[count].accuracy), percent(of_build[count].agreement))
        if count in of_build
        else Quality(None, None)
        for count in counts
    }


def percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def measured_here(bundle: Bundle, counts: Sequence[int], data: Path, warn: Callable[[str], None]) -> dict[int, Quality]:
    """Run the target on the images with every number of branches."""
    scores = recorded(bundle.manifest.scores, len(bundle.manifest.labels))
    if scores.kind == "values":
        raise InputError(
            "the outputs are values, not classes, so there is no accuracy",
            where=f"--data {data}",
            remedy="leave it out",
        )
    options = options_for(bundle.manifest, {"data": data})
    given, truth = {}, None
    for count in reversed(counts):
        engine = Engine(bundle.with_branches(count))
        samples, answers = answer_images(engine, engine.manifest, options, warn if count == counts[-1] else silent)
        given[count], truth = classes_of(answers.logits, scores), samples.labels
    whole = given[counts[-1]]
    return {
        count: Quality(
            None if truth is None else 100 * float((answers == truth).mean()), 100 * float((answers == whole).mean())
        )
        for count, answers in given.items()
    }


def smallest(qualities: Mapping[int, Quality], whole: int, max_drop: float) -> int | None:
    """The smallest number of branches that loses at most `max_drop`; None if nothing was measured."""
    losses = {count: loss(quality, qualities[whole]) for count, quality in qualities.items()}
    return min((count for count, lost in losses.items() if lost is not None and lost <= max_drop + 1e-9), default=None)


def loss(quality: Quality, whole: Quality) -> float | None:
    """Points of top-1 lost; without labels, percent of images with another answer."""
    if quality.accuracy is not None and whole.accuracy is not None:
        return whole.accuracy - quality.accuracy
    return None if quality.agreement is None else 100 - quality.agreement


def conclusion(qualities: Mapping[int, Quality], whole: int, enough: int | None, max_drop: float) -> str:
    """Say in one sentence how many branches are enough."""
    if enough is None:
        return "nothing shows how good the answers are; give --data"
    lost = loss(qualities[enough], qualities[whole]) or 0.0
    if qualities[enough].accuracy is None:
        limit, effect = f"at most {max_drop:g} % other answers", f"{lost:.2f} % of the images get another answer"
    else:
        limit = f"at most {max_drop:g} points of top-1 lost"
        effect = f"{abs(lost):.2f} points {'more' if lost < 0 else 'less'} than with all {whole}" if lost else "no loss"
    if enough == whole:
        return f"all {whole} branches are needed ({limit})"
    return f"{counted(enough, 'branch')} of {whole} {'is' if enough == 1 else 'are'} enough ({limit}): {effect}"
