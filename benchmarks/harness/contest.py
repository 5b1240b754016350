"""Times graphs side by side with `paraexport.timing.contest`, and adds arithmetic, errors and speed-ups.

Runtimes spin between calls as they do by default. OpenMP is the exception: its waiting threads sleep
(OMP_WAIT_POLICY=PASSIVE, unless the caller sets it). On a machine with other work, spinning made PyTorch many times
slower.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.harness.subjects import PRODUCT, Subject
from paraexport.system import process
from paraexport.timing import contest
from paraexport.timing.contest import Progress, Rules, Timing
from paraexport.timing.percentiles import percentile
from paraexport.timing.stability import StoppingRule

Family = Literal["peer", "ours", "peak", "scale"]
"""A row of the family `scale` is shown for scale, and compared with nothing."""
RULES = Rules(
    rounds=9, warm_up_rounds=0, stop=StoppingRule(at_most=18), burst_s=0.25, calls_at_least=3, rotate=True, attempts=4,
    load_at_most_s=300.0,
)  # fmt: skip
QUICK = replace(RULES, rounds=3, stop=None, burst_s=0.06)
"""To see that a script runs, not to measure."""
THREADS = 2
WORKER = "from benchmarks.harness import worker; worker.main(sys.argv[2:])"
"""With RUNNER FOLDER GRAPH BATCH THREADS."""


@dataclass(frozen=True)
class Contestant:
    """A graph, and the runner of `benchmarks.harness.worker` that opens it."""

    name: str
    family: Family
    runner: str
    graph: str
    """Multiply-adds are counted in this graph, too."""


@dataclass(frozen=True)
class Row:
    """One contestant at one size. The fields are the columns of the CSV. If it failed, `note` gives the reason."""

    branches: int
    depth: int
    batch: int
    contestant: str
    family: Family
    runner: str
    graph: str
    latency_ms: float | None = None
    """Of one call on the whole batch: the median of the medians of the bursts. Their quartiles follow."""
    quartile_1_ms: float | None = None
    quartile_3_ms: float | None = None
    fastest_ms: float | None = None
    """The fastest single call."""
    rounds: int = 0
    calls_per_burst: int = 0
    """In the burst with the fewest calls."""
    other_cpus: float | None = None
    """CPUs that other processes kept busy during the bursts, on average. Do not trust times if it is above 0.1."""
    gflop: float | None = None
    """Twice the multiply-adds of the graph that ran, for the whole batch."""
    gflop_per_s: float | None = None
    share_of_peak: float | None = None
    """Compared with the fastest large product in the same contest."""
    speedup: float | None = None
    """Latency of the best peer in the same contest divided by this latency."""
    error_vs_float32: float | None = None
    """max |Δ logit| / max |logit| against PyTorch eager in float32, then in float64."""
    error_vs_float64: float | None = None
    open_s: float | None = None
    note: str = ""


def compete(
    contestants: Sequence[Contestant],
    subject: Subject,
    product: Subject,
    *,
    batch: int,
    rules: Rules = RULES,
    threads: int = THREADS,
    progress: Progress,
) -> list[Row]:
    """The rows of one contest, in the order of `contestants`. The caller fills in `branches` and `depth`."""
    rows: dict[str, Row] = {}
    starting: list[contest.Contestant] = []
    for contestant in contestants:
        source, images = (product, 1) if contestant.graph == PRODUCT else (subject, batch)
        failure = source.failed.get(contestant.graph)
        row = Row(
            0, 0, batch, contestant.name, contestant.family, contestant.runner, contestant.graph,
            note=failure or source.notes.get(contestant.graph, ""),
        )  # fmt: skip
        if failure is None:
            row = replace(row, gflop=2e-9 * images * source.multiply_adds[contestant.graph])
            arguments = (contestant.runner, str(source.folder), contestant.graph, str(images), str(threads))
            starting.append(
                contest.Contestant(contestant.name, process.command(WORKER, *arguments), openmp_settings(threads))
            )
        rows[contestant.name] = row
    for name, timing in contest.run(starting, [batch], rules, progress).items():
        rows[name] = with_timing(rows[name], timing, rules)
    return with_comparisons(list(rows.values()))


def openmp_settings(threads: int) -> dict[str, str]:
    return {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"), "OMP_NUM_THREADS": str(threads)}


def with_timing(row: Row, timing: Timing, rules: Rules = RULES) -> Row:
    if timing.failure:
        return replace(row, note=timing.failure, gflop=None)
    medians_ms = timing.bursts_ms[row.batch]
    latency_ms = timing.median_ms(row.batch)
    unstable = rules.stop is not None and not rules.stop.stable(medians_ms)
    return replace(
        row,
        latency_ms=latency_ms,
        quartile_1_ms=percentile(medians_ms, 25),
        quartile_3_ms=percentile(medians_ms, 75),
        fastest_ms=timing.summary(row.batch).fastest_ms,
        rounds=len(medians_ms),
        calls_per_burst=min(len(burst.latencies_ms) for burst in timing.bursts[row.batch]),
        gflop_per_s=None if row.gflop is None else row.gflop / (latency_ms * 1e-3),
        other_cpus=timing.other_cpus(row.batch),
        note="; ".join(filter(None, [row.note, "unstable" if unstable else ""])),
        **timing.facts,  # type: ignore[arg-type]  # the fields of worker.Opened
    )


def with_comparisons(rows: Sequence[Row]) -> list[Row]:
    """Fill in the columns that compare a row with others of its contest."""
    peers = [row.latency_ms for row in rows if row.family == "peer" and row.latency_ms is not None]
    peaks = [row.gflop_per_s for row in rows if row.family == "peak" and row.gflop_per_s is not None]
    return [
        replace(
            row,
            speedup=min(peers) / row.latency_ms if peers and row.latency_ms and row.family != "peak" else None,
            share_of_peak=row.gflop_per_s / max(peaks) if peaks and row.gflop_per_s else None,
        )
        for row in rows
    ]
