"""Turns timings into rows: one for each contestant and batch size."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from paraexport.bench.comparison import Comparison
from paraexport.timing.contest import Burst, Rules, Timing
from paraexport.timing.machine_load import BUSY_CPUS


@dataclass(frozen=True)
class Row:
    """A contestant with one batch size. Latencies are those of one call on the whole batch."""

    name: str
    target: str
    precision: str
    layout: str
    batch: int
    threads: int | None
    """None for the runtime's default."""
    branches: int | None = None
    """The number of branches in use; None in PyTorch and for a module that is no known Para-Former."""
    size_bytes: int | None = None
    """Of the model, or of the checkpoint."""
    accuracy: float | None = None
    """Top-1 in percent on the labelled images of the build; None without labels."""
    agreement: float | None = None
    """Percent of the images of the build with PyTorch's answer."""
    calls: int = 0
    mean_ms: float | None = None
    percentiles_ms: Mapping[int, float] = field(default_factory=dict)
    """By percent. A percentile with too few calls is left out."""
    after_rest_ms: float | None = None
    """The median of calls that each come after a rest."""
    images_per_s: float | None = None
    multiply_adds: int | None = None
    """For one image, in the graph that runs; None if the bundle does not record it."""
    multiply_adds_per_s: float | None = None
    of_ceiling: float | None = None
    """The share, 0 to 1, of the multiply-adds a second that one large float32 product reaches on this machine."""
    load_ms: float | None = None
    first_call_ms: float | None = None
    peak_memory_bytes: int | None = None
    ratio: float | None = None
    """Median latency of the first contestant divided by this one's: 2 means twice as fast."""
    ratio_interval: tuple[float, float] | None = None
    """The ratio lies between these, with a confidence of 99 %."""
    verdict: str = ""
    """Beside the first contestant: `equal`, `faster`, `slower`, or `unclear`."""
    note: str = ""
    """`unstable` with its reason, `under load`, or why the contestant did not run."""


def timed(row: Row, timing: Timing, rested: Sequence[Burst], rules: Rules) -> Row:
    """Fill in the measured fields of a row."""
    images_per_s = 1e3 * row.batch * rules.streams / timing.summary(row.batch).mean_ms
    summary, facts = timing.summary(row.batch), cast("Mapping[str, Any]", timing.facts)
    return replace(
        row,
        calls=summary.calls,
        mean_ms=summary.mean_ms,
        percentiles_ms=dict(summary.percentiles_ms),
        after_rest_ms=statistics.median([ms for burst in rested for ms in burst.latencies_ms]) if rested else None,
        images_per_s=images_per_s,
        multiply_adds_per_s=None if row.multiply_adds is None else row.multiply_adds * images_per_s,
        load_ms=facts.get("load_ms"),
        first_call_ms=facts.get("first_call_ms"),
        peak_memory_bytes=facts.get("peak_memory_bytes"),
        note=doubt(timing, row.batch, rules),
    )


def with_ceiling(row: Row, ceiling: float | None) -> Row:
    """Compare the multiply-adds a second of a row with those that this machine can reach."""
    if ceiling is None or row.multiply_adds_per_s is None:
        return row
    return replace(row, of_ceiling=row.multiply_adds_per_s / ceiling)


def doubt(timing: Timing, batch: int, rules: Rules) -> str:
    """Why not to trust the latencies: the last windows do not agree, or other processes were busy; else empty."""
    assert rules.stop is not None
    others = timing.other_cpus(batch)
    busy = others is not None and others > BUSY_CPUS and f"other processes used {others:.1f} CPUs"
    values_ms = [burst.percentile_ms(rules.stop.percent) for burst in timing.bursts[batch]]
    if rules.stop.stable(values_ms):
        return f"under load: {busy}" if busy else ""
    last = values_ms[-rules.stop.windows :]
    reason = busy or "no other process was busy, so the CPU's frequency or the runtime's threads vary"
    return f"unstable: P{rules.stop.percent:g} from {min(last):.3g} to {max(last):.3g} ms; {reason}"


def beside(row: Row, comparison: Comparison) -> Row:
    """Add the comparison with the first contestant."""
    interval = (comparison.low, comparison.high)
    return replace(row, ratio=comparison.ratio, ratio_interval=interval, verdict=comparison.verdict)
