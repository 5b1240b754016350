"""Defines bench(), which times bundles side by side, each in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from paraexport.bench import worker
from paraexport.bench.rows import Row, beside, timed, unstable
from paraexport.bundle import Bundle, read_bundle, report
from paraexport.bundle.records import Manifest
from paraexport.checks import golden
from paraexport.errors import InputError
from paraexport.system import process
from paraexport.system.plain_paths import name_of
from paraexport.targets.folder import MODEL
from paraexport.timing import contest
from paraexport.timing.clock import Progress, silent
from paraexport.timing.contest import Contestant, Rules
from paraexport.timing.stability import StoppingRule

BATCHES = (1, 8)
"""A single image, and a small queue."""
RULES = Rules(
    rounds=9, stop=StoppingRule(at_most=24), burst_s=0.2, calls_at_least=3, rotate=True, load_at_most_s=300.0
)  # fmt: skip
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
    most_windows: int = 24

    def rules(self) -> Rules:
        stop = StoppingRule(percent=self.percent, at_most=self.most_windows)
        rounds = min(RULES.rounds, self.most_windows)
        return replace(RULES, stop=stop, rounds=rounds, streams=self.streams)


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
    if settings.batches is None:
        settings = replace(settings, batches=tuple(sorted({min(batch, largest) for batch in BATCHES})))
    batches = settings.batches or ()
    require_comparable(opened, batches)
    names = distinct_names(bundles)
    with tempfile.TemporaryDirectory() as temporary:
        images = Path(temporary) / "images.npy"
        np.save(images, golden.read(opened[0].files)[0])
        contestants, rows = [], {}
        for name, path, bundle in zip(names, bundles, opened, strict=True):
            job = worker.Job(worker.BUNDLE, str(path), str(images), batches, settings.threads)
            contestants.append(contestant(name, job))
            rows[name] = bundle_row(name, bundle, settings)
        for peer in peers:
            overrides = {
                field: text for field, text in opened[0].manifest.source.overrides.items() if field != "labels"
            }
            job = worker.Job(
                peer.kind, str(peer.checkpoint), str(images), batches, settings.threads, overrides, peer.module
            )
            contestants.append(contestant(peer.kind, job))
            size = peer.checkpoint.stat().st_size
            rows[peer.kind] = Row(peer.kind, "", "fp32", "", 0, settings.threads, size_bytes=size)
        return measure(contestants, rows, settings, progress)


def measure(
    contestants: Sequence[Contestant], rows: dict[str, Row], settings: Settings, progress: Progress
) -> list[Row]:
    """Run the contest, and return the rows batch by batch."""
    rules, results = settings.rules(), []
    with contest.started(contestants, rules, progress) as processes:
        for batch in settings.batches or ():
            bursts = contest.run_batch_size(processes, batch, rules, progress)
            rested = contest.run_batch_size(processes, batch, RESTED, silent) if settings.streams == 1 else {}
            first = bursts[contestants[0].name]
            for name, row in rows.items():
                started, own = processes[name], bursts[name]
                if started.failure or not own:
                    results.append(replace(row, batch=batch, note=f"did not run: {started.failure}"))
                    continue
                measured = timed(replace(row, batch=batch), started.facts, own, rested.get(name, ()), rules)
                if name != contestants[0].name and first:
                    steady = not (unstable(first, rules) or measured.note)
                    measured = beside(measured, first, own, steady=steady)
                results.append(measured)
    return results


def contestant(name: str, job: worker.Job) -> Contestant:
    return Contestant(name, process.command(worker.STATEMENT, json.dumps(dataclasses.asdict(job))))


def bundle_row(name: str, bundle: Bundle, settings: Settings) -> Row:
    manifest = bundle.manifest
    accuracy = report.read(bundle.files).accuracy
    disagreement = next((check.value for check in manifest.checks if check.name == "disagreement"), None)
    return Row(
        name,
        manifest.target,
        manifest.precision,
        manifest.layout,
        0,
        settings.threads,
        size_bytes=model_bytes(manifest),
        accuracy=100 * accuracy.engine_correct / accuracy.images if accuracy else None,
        agreement=None if disagreement is None else 100 - disagreement,
    )


def model_bytes(manifest: Manifest) -> int:
    """The size of the files that the target opens: the model, and weights beside it."""
    file = MODEL if manifest.runtime is None else manifest.runtime.file
    return sum(entry.size_bytes for name, entry in manifest.files.items() if name in (file, f"{file}.data"))


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
