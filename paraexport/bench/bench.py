"""Defines bench(), which times bundles side by side, each in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from paraexport.bench import worker
from paraexport.bench.ceiling import multiply_adds_per_s
from paraexport.bench.comparison import all_decided, compare
from paraexport.bench.rows import Row, beside, timed, with_ceiling
from paraexport.bundle import Bundle, read_bundle, report
from paraexport.checkpoint.shards import weights_bytes
from paraexport.checks import golden
from paraexport.errors import InputError
from paraexport.pipeline.validate import options_for
from paraexport.system import process
from paraexport.system.plain_paths import name_of
from paraexport.targets.folder import MODEL, model_bytes
from paraexport.timing import contest
from paraexport.timing.clock import Progress, silent
from paraexport.timing.contest import Contestant, Rules, Timing
from paraexport.timing.stability import StoppingRule

BATCHES = (1, 8)
"""A single image, and a small queue."""
RULES = Rules(rounds=9, burst_s=0.2, calls_at_least=3, rotate=True, load_at_most_s=300.0)
RESTED = Rules(rounds=1, warm_up_rounds=0, burst_s=0.0, calls_at_least=15, pause_s=0.05)
"""For latency after a rest."""


@dataclass(frozen=True)
class Settings:
    """How to measure."""

    batches: tuple[int, ...] | None = None
    """None for `BATCHES`, as far as the bundles take them."""
    threads: int | None = None
    percent: float = 50.0
    """The percentile that must be stable."""
    streams: int = 1
    """Threads that call at the same time, for throughput."""
    most_windows: int = 40

    def rules(self) -> Rules:
        stop = StoppingRule(percent=self.percent, at_most=self.most_windows)
        rounds = min(RULES.rounds, self.most_windows)
        return replace(RULES, stop=stop, enough=all_decided, rounds=rounds, streams=self.streams)


@dataclass(frozen=True)
class Peer:
    """The checkpoint in PyTorch, to compare with."""

    kind: str
    """`torch` or `compile`."""
    checkpoint: Path
    module: str | None = None


def bench(
    bundles: Sequence[Path], settings: Settings, peers: Sequence[Peer] = (), *, progress: Progress = silent
) -> list[Row]:
    """Time the bundles and the peers in turns, with every batch size.

    Raises:
        BundleError: a bundle is incomplete or was changed.
        InputError: the bundles hold different models, or a batch is larger than a bundle takes.
    """
    opened = [read_bundle(path) for path in bundles]
    largest = min(bundle.manifest.max_batch for bundle in opened)
    batches = settings.batches or tuple(sorted({min(batch, largest) for batch in BATCHES}))
    require_comparable(opened, batches)
    first = opened[0]
    with tempfile.TemporaryDirectory() as temporary:
        images = Path(temporary) / "images.npy"
        np.save(images, golden.read(first.files)[0])
        contestants, rows = [], {}
        for name, path, bundle in zip(distinct_names(bundles), bundles, opened, strict=True):
            contestants.append(
                contestant(name, worker.Job(worker.BUNDLE, str(path), str(images), batches, settings.threads))
            )
            rows[name] = bundle_row(name, bundle, settings)
        for peer in peers:
            reading = options_for(first.manifest, {"module": peer.module}).reading
            job = worker.Job(peer.kind, str(peer.checkpoint), str(images), batches, settings.threads, reading)
            contestants.append(contestant(peer.kind, job))
            size_bytes = weights_bytes(peer.checkpoint)
            rows[peer.kind] = Row(peer.kind, "", "fp32", "", 0, settings.threads, size_bytes=size_bytes)
        return measure(contestants, rows, batches, settings, progress)


def measure(
    contestants: Sequence[Contestant],
    rows: Mapping[str, Row],
    batches: Sequence[int],
    settings: Settings,
    progress: Progress,
) -> list[Row]:
    """Run the contest, and return the rows batch by batch."""
    rules, results = settings.rules(), []
    ceilings = [multiply_adds_per_s(settings.threads)]
    with contest.started(contestants, rules, progress) as processes:
        for batch in batches:
            bursts = contest.run_batch_size(processes, batch, rules, progress)
            rested = contest.run_batch_size(processes, batch, RESTED, silent) if settings.streams == 1 else {}
            first = bursts[contestants[0].name]
            for name, row in rows.items():
                started, own = processes[name], bursts[name]
                if started.failure or not own:
                    results.append(replace(row, batch=batch, note=f"did not run: {started.failure}"))
                    continue
                timing = Timing({batch: tuple(own)}, facts=started.facts)
                measured = timed(replace(row, batch=batch), timing, rested.get(name, ()), rules)
                if name != contestants[0].name and first:
                    measured = beside(measured, compare(first, own))
                results.append(measured)
    # Other work on the machine can only lower what was measured, so the larger value counts.
    ceilings.append(multiply_adds_per_s(settings.threads))
    ceiling = max((value for value in ceilings if value is not None), default=None)
    return [with_ceiling(row, ceiling) for row in results]


def contestant(name: str, job: worker.Job) -> Contestant:
    return Contestant(name, process.command(worker.STATEMENT, msgspec.json.encode(job).decode()))


def bundle_row(name: str, bundle: Bundle, settings: Settings) -> Row:
    manifest = bundle.manifest
    build_report = report.read(bundle.files)
    accuracy, costs = build_report.accuracy, build_report.costs
    disagreement = next((check.value for check in manifest.checks if check.name == "disagreement"), None)
    return Row(
        name,
        manifest.target,
        manifest.precision,
        manifest.layout,
        0,
        settings.threads,
        branches=None if manifest.spec is None else manifest.spec.branches,
        size_bytes=model_bytes(bundle.files, manifest.runtime.file if manifest.runtime else MODEL),
        accuracy=100 * accuracy.engine_correct / accuracy.images if accuracy else None,
        agreement=None if disagreement is None else 100 - disagreement,
        multiply_adds=None if costs is None else costs.final.total.multiply_adds,
    )


def require_comparable(bundles: Sequence[Bundle], batches: Sequence[int]) -> None:
    """Check that all bundles hold models with the same inputs and classes, and take the batches.

    Raises:
        InputError: they do not.
    """
    first = bundles[0].manifest
    for bundle in bundles:
        manifest = bundle.manifest
        shapes = [(m.inputs[0].shape[1:], m.outputs[0].shape[1:]) for m in (first, manifest)]
        if shapes[0] != shapes[1]:
            raise InputError(
                "the bundles hold different models",
                where=bundle.path,
                expected=f"images {list(shapes[0][0])} and {shapes[0][1][0]} classes, as in {bundles[0].path}",
                got=f"images {list(shapes[1][0])} and {shapes[1][1][0]} classes",
                remedy="compare bundles of one model",
            )
        if (largest := max(batches)) > manifest.max_batch:
            raise InputError(
                "the batch is larger than the bundle takes in one run",
                where=bundle.path,
                expected=f"at most {manifest.max_batch}",
                got=largest,
                remedy="give smaller --batch sizes, or build with a larger --max-batch",
            )


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """The names of the folders, with numbers if two are the same."""
    names: list[str] = []
    for path in paths:
        name = name_of(path.absolute())
        names.append(name if name not in names else f"{name} ({len(names) + 1})")
    return names
