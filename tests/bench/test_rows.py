"""Rows from timings: percentiles, verdicts and reasons, on latencies whose truth is known."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraexport.bench import tables
from paraexport.bench.batches import parse_batches
from paraexport.bench.bench import Settings, distinct_names
from paraexport.bench.comparison import all_decided, compare, signed_rank
from paraexport.bench.rows import Row, doubt, timed
from paraexport.errors import InputError
from paraexport.timing.contest import Burst, Timing
from paraexport.timing.throughput import Throughput

RULES = Settings().rules()
ROW = Row("a.bundle", "onnxruntime", "fp32", "folded", 8, None)


def bursts(
    seed: int, median_ms: float, *, spread: float = 0.02, rounds: int = 9, other_cpus: float = 0.0
) -> list[Burst]:
    """Log-normal latencies around a median; each round has noise of its own."""
    rng = np.random.default_rng(seed)
    levels = median_ms * np.exp(rng.normal(0, spread, rounds))
    return [Burst(tuple(level * np.exp(rng.normal(0, 0.01, 50))), other_cpus) for level in levels]


@pytest.mark.parametrize(("spread", "rounds"), [(0.02, 9), (0.1, 30)])
def test_equal_contestants_are_equal(spread: float, rounds: int) -> None:
    verdicts = [
        compare(
            bursts(2 * seed, 1.0, spread=spread, rounds=rounds), bursts(2 * seed + 1, 1.0, spread=spread, rounds=rounds)
        ).verdict
        for seed in range(200)
    ]
    assert verdicts.count("equal") >= 180


def test_few_rounds_of_noise_are_not_equal() -> None:
    """Nine rounds that differ by 15 % cannot show that two contestants differ by less than 10 %."""
    verdicts = [
        compare(bursts(2 * seed, 1.0, spread=0.15), bursts(2 * seed + 1, 1.0, spread=0.15)).verdict
        for seed in range(50)
    ]
    assert verdicts.count("unclear") >= 40


@pytest.mark.parametrize(("factor", "verdict"), [(0.8, "faster"), (1.25, "slower")])
def test_different_contestants_are_different(factor: float, verdict: str) -> None:
    for seed in range(50):
        comparison = compare(bursts(2 * seed, 1.0), bursts(2 * seed + 1, factor))
        assert comparison.verdict == verdict
        assert comparison.ratio == pytest.approx(1 / factor, rel=0.05)
        assert comparison.low <= 1.04 / factor
        assert comparison.high >= 0.96 / factor


def test_noisy_contestants_differ_only_if_it_is_clear() -> None:
    first = bursts(0, 1.0, spread=0.3)
    assert compare(first, bursts(1, 1.2, spread=0.3)).verdict == "unclear"
    assert compare(first, bursts(1, 10.0, spread=0.3)).verdict == "slower"


def test_rounds_go_on_until_the_ratio_is_known_well_enough() -> None:
    noisy = [bursts(seed, 1.0, spread=0.2, rounds=120) for seed in (0, 1)]
    assert not all_decided([own[:9] for own in noisy])
    assert all_decided(noisy)
    slow = bursts(2, 5.0, spread=0.2, rounds=9)
    assert all_decided([noisy[0][:9], slow]), "it is clearly slower, so the exact factor needs no more rounds"
    assert not all_decided([noisy[0][:9], slow, noisy[1][:9]])
    assert all_decided([noisy[0][:9]]), "one contestant has nothing to be compared with"


def test_the_interval_covers_the_centre_as_often_as_it_claims() -> None:
    rng = np.random.default_rng(0)
    for rounds in (8, 15, 30):
        intervals = [signed_rank(values)[1:] for values in rng.laplace(1.0, 1.0, (1000, rounds)).tolist()]
        assert np.mean([low <= 1 <= high for low, high in intervals]) >= 0.98


def test_the_interval_is_the_one_of_the_tables() -> None:
    """For 10 values, tables of the signed-rank test allow at most 3 of the 55 means beyond each end at 1 %."""
    values = [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 127.0, 255.0, 511.0]
    means = np.sort([(a + b) / 2 for k, a in enumerate(values) for b in values[k:]])
    assert signed_rank(values) == (np.median(means), means[3], means[-4])
    assert signed_rank([1.0, 2.0]) == (1.5, 1.0, 2.0)
    assert signed_rank([1.0]) == (1.0, 1.0, 1.0)


def test_percentiles_are_those_of_numpy_and_need_enough_calls() -> None:
    own = bursts(0, 2.0)
    row = timed(ROW, Timing({8: tuple(own)}, facts={"load_ms": 5.0}), [], RULES)
    calls = np.concatenate([burst.latencies_ms for burst in own])
    assert row.calls == 450
    assert row.mean_ms == pytest.approx(calls.mean())
    assert row.percentiles_ms == pytest.approx({p: np.percentile(calls, p) for p in (50, 90, 95, 99)})
    assert row.images_per_s == pytest.approx(8 / (1e-3 * calls.mean()))
    few = timed(ROW, Timing({8: (Burst(tuple(calls[:20])),)}), [], RULES)
    assert {*few.percentiles_ms} == {50}  # 29 calls are needed for P90


def test_doubts_have_a_reason() -> None:
    def doubt_of(*times_ms: float, other_cpus: float | None) -> str:
        return doubt(Timing({8: tuple(Burst((time_ms,), other_cpus) for time_ms in times_ms)}), 8, RULES)

    unstable = "unstable: P50 from 1 to 1.5 ms; "
    assert doubt_of(1.0, 1.5, 1.0, other_cpus=1.5) == unstable + "other processes used 1.5 CPUs"
    assert "frequency" in doubt_of(1.0, 1.5, 1.0, other_cpus=0.0)
    assert doubt_of(1.0, 1.0, 1.0, other_cpus=1.5) == "under load: other processes used 1.5 CPUs"
    assert not doubt_of(1.0, 1.0, 1.0, other_cpus=0.05)
    assert not doubt_of(1.0, 1.0, 1.0, other_cpus=None), "a system that does not report it"


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=20))
def test_lists_of_batches(sizes: list[int]) -> None:
    assert parse_batches(",".join(map(str, sizes))) == tuple(sorted({*sizes}))


@given(st.integers(1, 50), st.integers(0, 500), st.integers(2, 9))
def test_ranges_of_batches(first: int, more: int, step: int) -> None:
    last = first + more
    powers = [first * step**k for k in range(20) if first * step**k <= last]
    assert parse_batches(f"{first}-{last}*{step}") == tuple(powers)
    if more // step < 64:
        assert parse_batches(f"{first}-{last}+{step}") == tuple(range(first, last + 1, step))


@pytest.mark.parametrize(
    "text", ["", "0", "1,", "a", "-1", "1-", "8-1", "1-4*1", "1-4+0", "1-1000", "1.5", "1 2", "9" * 30]
)
def test_impossible_batches(text: str) -> None:
    with pytest.raises(InputError, match="invalid batch sizes"):
        parse_batches(text)


def test_tables_have_every_row() -> None:
    rows = [
        timed(ROW, Timing({8: tuple(bursts(0, 2.0))}), [], RULES),
        Row("b.bundle", "", "", "", 8, 2, note="did not run: gone"),
    ]
    lines = list(csv.DictReader(io.StringIO(tables.as_csv(rows))))
    assert [line["name"] for line in lines] == ["a.bundle", "b.bundle"]
    assert float(lines[0]["p50_ms"]) == rows[0].percentiles_ms[50]
    assert tables.as_markdown(rows, "here").count("\n| ") == 4
    assert "did not run: gone" in tables.as_markdown(rows, "here")


def test_throughput_counts_all_threads() -> None:
    """Four threads whose calls take 2 ms each make 2,000 calls of 8 images a second."""
    settings = Settings(streams=4)
    row = timed(ROW, Timing({8: (Burst((2.0,) * 300),) * 9}), [], settings.rules())
    assert row.images_per_s == pytest.approx(Throughput(2000 * 8, 4, ()).images_per_s)


def test_names_are_distinct() -> None:
    assert distinct_names([Path("a/m.bundle"), Path("b/m.bundle"), Path("n.bundle")]) == [
        "m.bundle", "m.bundle (2)", "n.bundle",
    ]  # fmt: skip
