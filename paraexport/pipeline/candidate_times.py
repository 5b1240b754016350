"""`auto`: the candidates, targets × layouts, timed on this machine, and the one that is fastest here."""

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
from paraexport.targets.folder import MODEL, WEIGHTS, Folder
from paraexport.timing import contest

BATCHES = (1, 8)
"""One image as it comes, and a small queue."""
CONTESTANT = "from paraexport.pipeline import candidate_times; candidate_times.serve(*sys.argv[2:])"
"""With TARGET FOLDER WORKLOAD."""
MOST_AT_ONCE_BYTES = 2**31
"""Of models in memory, each in a process of its own."""


def installed_targets(precision: str) -> tuple[str, ...]:
    """The targets that can run a graph of this precision here.

    Raises:
        MissingError: none can.
    """
    here = {name: target.availability() for name, target in targets.TARGETS.items()}
    running = [name for name, one in here.items() if one.version is not None and not one.idle]
    found = tuple(name for name in running if precision not in targets.get(name).dialect.refuses)
    if not found:
        remedies = " or ".join(dict.fromkeys(one.remedy for one in here.values() if one.remedy))
        raise MissingError("no target is installed", where="target auto", remedy=remedies)
    return found


def batches_up_to(max_batch: int) -> tuple[int, ...]:
    return tuple(sorted({min(batch, max_batch) for batch in BATCHES}))


def time_candidates(
    candidates: Sequence[tuple[str, str, Path]],
    workload: targets.Workload,
) -> tuple[CandidateTimes, ...]:
    """Time (target, layout, folder with the model) in turns; the fastest is marked as chosen.

    Each is a process with a model of its own: where they are too large for that together, a few at a time take turns.
    The fastest is the one with the lowest geometric mean, over the batch sizes, of its latency relative to the best.

    Raises:
        MissingError: not one of them runs here.
    """
    batches, said = batches_up_to(workload.max_batch), json.dumps(dataclasses.asdict(workload))
    contestants = [
        contest.Contestant(f"{target}, {layout}", process.command(CONTESTANT, target, str(folder), said))
        for target, layout, folder in candidates
    ]
    sizes = [size_bytes(folder) for *_, folder in candidates]
    timings = [timing for group in groups(contestants, sizes) for timing in contest.run(group, batches).values()]
    running = [one for one in timings if not one.failure]
    if not running:
        reasons = "; ".join(f"{entry.name}: {one.failure}" for entry, one in zip(contestants, timings, strict=True))
        raise MissingError(f"no candidate runs here: {reasons}", where="auto", remedy="paraexport doctor")
    best_ms = {batch: min(one.median_ms(batch) for one in running) for batch in batches}

    def slowness(timing: contest.Timing) -> float:
        return math.prod(timing.median_ms(batch) / best_ms[batch] for batch in batches)

    chosen = min(running, key=slowness)
    return tuple(
        CandidateTimes(
            target,
            layout,
            {str(batch): round(one.median_ms(batch), 4) for batch in one.bursts_ms},
            one is chosen,
            one.failure,
        )
        for (target, layout, _), one in zip(candidates, timings, strict=True)
    )


def size_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in (folder / MODEL, folder / WEIGHTS) if file.is_file())


def groups(contestants: Sequence[contest.Contestant], sizes: Sequence[int]) -> Iterator[list[contest.Contestant]]:
    """The contestants in order, as many at a time as have models of `MOST_AT_ONCE_BYTES` together, or two."""
    most = max(MOST_AT_ONCE_BYTES, 2 * max(sizes, default=0))
    group: list[contest.Contestant] = []
    taken = 0
    for contestant, size in zip(contestants, sizes, strict=True):
        if group and taken + size > most:
            yield group
            group, taken = [], 0
        group.append(contestant)
        taken += size
    yield group


def serve(target: str, folder: str, workload: str) -> None:
    """Be a contestant: the model in `folder` on random images; `workload` is one in JSON."""
    said = json.loads(workload)
    image = tuple(said.pop("image"))
    try:
        session = targets.get(target).open_session(Folder(Path(folder)), targets.Workload(image=image, **said))
    except Exception as error:  # each runtime has errors of its own
        print(json.dumps({"error": on_one_line(error)[:300]}), flush=True)
        return

    @functools.cache
    def images(batch: int) -> NDArray[np.float32]:
        return np.random.default_rng(0).standard_normal((batch, *image), np.float32)

    contest.serve(lambda batch: session(images(batch)))
