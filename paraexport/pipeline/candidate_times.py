"""Times the candidates of `auto`, targets × layouts, on this machine, and marks the fastest."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paraexport import targets
from paraexport.errors import MissingError, on_one_line
from paraexport.findings.graphs import CandidateTimes
from paraexport.system import process
from paraexport.targets.folder import Folder, model_bytes
from paraexport.timing import contest

BATCHES = (1, 8)
"""Batch sizes to time: a single image, and a small queue."""
CONTESTANT = "from paraexport.pipeline import candidate_times; candidate_times.serve(*sys.argv[2:])"
"""The code of a contestant's process. Its arguments are TARGET FOLDER WORKLOAD."""
MOST_AT_ONCE_BYTES = 2**31
"""The largest sum of models that take turns together, each in its own process."""


def installed_targets(precision: str) -> tuple[str, ...]:
    """Return the targets that can run a graph of this precision on this machine.

    Raises:
        MissingError: no target can.
    """
    states = {name: target.availability() for name, target in targets.TARGETS.items()}
    running = [name for name, state in states.items() if state.version is not None and not state.idle]
    usable = tuple(name for name in running if precision not in targets.get(name).dialect.refuses)
    if not usable:
        remedies = " or ".join(dict.fromkeys(state.remedy for state in states.values() if state.remedy))
        raise MissingError("no target is installed", where="target auto", remedy=remedies)
    return usable


def batches_up_to(max_batch: int) -> tuple[int, ...]:
    return tuple(sorted({min(batch, max_batch) for batch in BATCHES}))


def time_candidates(
    candidates: Sequence[tuple[str, str, Path]],
    workload: targets.Workload,
) -> tuple[CandidateTimes, ...]:
    """Time candidates (target, layout, folder with the model) in turns, and mark the fastest as chosen.

    Each candidate loads its model in its own process. If all models together are too large, a few at a time take turns.
    The fastest has the lowest geometric mean, over the batch sizes, of its latency relative to the best.

    Raises:
        MissingError: no candidate runs here.
    """
    batches, workload_json = batches_up_to(workload.max_batch), json.dumps(dataclasses.asdict(workload))
    contestants = [
        contest.Contestant(f"{target}, {layout}", process.command(CONTESTANT, target, str(folder), workload_json))
        for target, layout, folder in candidates
    ]
    sizes = [model_bytes(Folder(folder)) for *_, folder in candidates]
    timings = [timing for group in groups(contestants, sizes) for timing in contest.run(group, batches).values()]
    running = [timing for timing in timings if not timing.failure]
    if not running:
        reasons = "; ".join(
            f"{entry.name}: {timing.failure}" for entry, timing in zip(contestants, timings, strict=True)
        )
        raise MissingError(f"no candidate runs here: {reasons}", where="auto", remedy="paraexport doctor")
    best_ms = {batch: min(timing.median_ms(batch) for timing in running) for batch in batches}

    def slowness(timing: contest.Timing) -> float:
        return math.prod(timing.median_ms(batch) / best_ms[batch] for batch in batches)

    fastest = min(running, key=slowness)
    return tuple(
        CandidateTimes(
            target,
            layout,
            {str(batch): round(timing.median_ms(batch), 4) for batch in timing.bursts_ms},
            timing is fastest,
            timing.failure,
        )
        for (target, layout, _), timing in zip(candidates, timings, strict=True)
    )


def groups(contestants: Sequence[contest.Contestant], sizes: Sequence[int]) -> Iterator[list[contest.Contestant]]:
    """Split the contestants into groups, in order. Models of a group have `MOST_AT_ONCE_BYTES` together, or are two."""
    most = max(MOST_AT_ONCE_BYTES, 2 * max(sizes, default=0))
    group: list[contest.Contestant] = []
    group_bytes = 0
    for contestant, size in zip(contestants, sizes, strict=True):
        if group and group_bytes + size > most:
            yield group
            group, group_bytes = [], 0
        group.append(contestant)
        group_bytes += size
    yield group


def serve(target: str, folder: str, workload: str) -> None:
    """Act as a contestant: run the model in `folder` on random images. `workload` is a `Workload` as JSON."""
    settings = json.loads(workload)
    image = tuple(settings.pop("image"))
    try:
        session = targets.get(target).open_session(Folder(Path(folder)), targets.Workload(image=image, **settings))
    except Exception as error:  # each runtime has errors of its own
        print(json.dumps({"error": on_one_line(error)[:300]}), flush=True)
        return

    @functools.cache
    def images(batch: int) -> NDArray[np.float32]:
        return np.random.default_rng(0).standard_normal((batch, *image), np.float32)

    contest.serve(lambda batch: session(images(batch)))
