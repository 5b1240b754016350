"""Timing in turns: contestants of known speed, broken ones, and what `auto` makes of the figures."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import paraexport
from paraexport import targets
from paraexport.checks.golden import read
from paraexport.engine import load
from paraexport.errors import MissingError
from paraexport.pipeline import candidate_times
from paraexport.timing import contest
from paraexport.timing.contest import Contestant, Timing

SLEEPS = (
    "import time; from paraexport.timing import contest; contest.serve(lambda batch: time.sleep(batch * {seconds}))"
)


def sleeper(seconds: float) -> Contestant:
    return Contestant(f"{seconds} s", [sys.executable, "-c", SLEEPS.format(seconds=seconds)])


def script(name: str, code: str) -> Contestant:
    return Contestant(name, [sys.executable, "-c", code])


def run(contestants: Sequence[Contestant], batches: Sequence[int] = (1,)) -> dict[str, Timing]:
    return contest.run(contestants, batches, rounds=2, burst_s=0.02, rest_s=0)


def test_latencies_are_those_of_the_work_by_batch_size() -> None:
    timings = run([sleeper(0.01), sleeper(0.02)], (1, 3))
    for name, once_ms in (("0.01 s", 10), ("0.02 s", 20)):
        for batch in (1, 3):
            assert once_ms * batch <= timings[name].median_ms(batch) <= once_ms * batch + 30
            assert len(timings[name].bursts_ms[batch]) == 2


def test_contestants_take_turns(tmp_path: Path) -> None:
    code = (
        "from paraexport.timing import contest\n"
        "def work(batch):\n"
        f"    with open({str(tmp_path / 'log')!r}, 'a') as log: log.write({{name!r}})\n"
        "contest.serve(work)"
    )
    contest.run([script(name, code.format(name=name)) for name in "ab"], (1,), rounds=2, burst_s=0, rest_s=0)
    assert (tmp_path / "log").read_text() == "ababab"


def test_one_that_cannot_run_keeps_its_reason_and_the_others_are_timed() -> None:
    timings = run(
        [
            sleeper(0.001),
            script("refuses", 'print(\'{"error": "no such runtime"}\')'),
            script("raises", "raise ImportError('not installed')"),
            script("silent", "raise SystemExit(3)"),
            script("dies", "print('{}', flush=True); input(); raise MemoryError('of 8 GB')"),
        ]
    )
    assert timings["0.001 s"].failure == ""
    assert timings["refuses"].failure == "no such runtime"
    assert timings["raises"].failure == "ImportError: not installed"
    assert timings["silent"].failure == "the process ended with code 3"
    assert timings["dies"].failure == "MemoryError: of 8 GB"
    assert all(not timing.bursts_ms for timing in timings.values() if timing.failure)


def test_what_a_contestant_says_on_stderr_never_stops_it() -> None:
    noisy = "import sys; print('x' * 300_000, file=sys.stderr)\n" + SLEEPS.format(seconds=0)
    assert run([script("noisy", noisy)])["noisy"].failure == ""


def test_what_a_library_prints_before_the_answer_is_passed_over() -> None:
    greeting = "print('welcome'); print(3)\n" + SLEEPS.format(seconds=0)
    assert run([script("greets", greeting)])["greets"].failure == ""


def test_one_that_never_answers_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "LOAD_AT_MOST_S", 0.5)
    assert run([script("hangs", "import time; time.sleep(60)")])["hangs"].failure == "no answer within 0.5 s"


def test_the_median_of_all_bursts() -> None:
    timing = Timing({1: (5.0, 1.0, 2.0, 4.0, 3.0), 8: (7.0,)})
    assert (timing.median_ms(1), timing.median_ms(8)) == (3.0, 7.0)


WORKLOAD = targets.Workload(image=(1, 8, 8), max_batch=64)


def choose_from(
    monkeypatch: pytest.MonkeyPatch, figures: dict[str, tuple[float, float] | str]
) -> dict[str, tuple[bool, str]]:
    timings = {
        f"target, {layout}": Timing({}, found) if isinstance(found, str) else Timing({1: found[:1], 8: found[1:]})
        for layout, found in figures.items()
    }
    monkeypatch.setattr(contest, "run", lambda *_: timings)
    made = candidate_times.time_candidates([("target", layout, Path()) for layout in figures], WORKLOAD)
    return {one.layout: (one.chosen, one.failure) for one in made}


def test_the_fastest_over_all_batch_sizes_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    # relative to the best: 1.5 x 1, 1 x 1.4, 1.1 x 1.2
    found = choose_from(monkeypatch, {"a": (1.5, 10.0), "b": (1.0, 14.0), "c": (1.1, 12.0), "d": "cannot"})
    assert found == {"a": (False, ""), "b": (False, ""), "c": (True, ""), "d": (False, "cannot")}


def test_where_no_candidate_runs_every_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingError, match="a: this; target, b: that"):
        choose_from(monkeypatch, {"a": "this", "b": "that"})


def test_batches_are_within_the_limit() -> None:
    assert [candidate_times.batches_up_to(limit) for limit in (1, 4, 8, 64)] == [(1,), (1, 4), (1, 8), (1, 8)]


def test_an_auto_build_times_all_layouts_and_keeps_the_fastest(small: Path, tmp_path: Path) -> None:
    made = paraexport.build(small, tmp_path / "a.bundle", layout="auto", max_batch=1)
    timed = made.manifest.candidates
    assert [one.layout for one in timed] == ["branches", "folded", "stacked"]
    (chosen,) = (one for one in timed if one.chosen)
    assert chosen.latency_ms["1"] == min(one.latency_ms["1"] for one in timed)
    assert (made.manifest.target, made.manifest.layout) == (chosen.target, chosen.layout)
    images, logits = read(made.files)
    assert abs(load(made.path)(images) - logits).max() <= 1e-5 * abs(logits).max()


def test_a_file_in_the_current_folder_does_not_stand_for_a_library(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('not the library')")
    monkeypatch.chdir(tmp_path)
    made = paraexport.build(small, tmp_path / "a.bundle", layout="auto", max_batch=1)
    assert not any(one.failure for one in made.manifest.candidates)


def test_no_target_at_all_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "TARGETS", {})
    with pytest.raises(MissingError, match="no target is installed"):
        candidate_times.installed_targets("fp32")


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((1, 1, 1, 1), ["abcd"]),
        ((40, 40, 30, 20), ["ab", "cd"]),
        ((300, 300, 300), ["ab", "c"]),
        ((1, 99, 300), ["abc"]),
    ],
)
def test_large_models_take_turns_a_few_at_a_time(
    sizes: tuple[int, ...], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate_times, "MOST_AT_ONCE_BYTES", 100)
    contestants = [Contestant(name, []) for name in "abcd"[: len(sizes)]]
    found = ["".join(one.name for one in group) for group in candidate_times.groups(contestants, sizes)]
    assert found == expected
