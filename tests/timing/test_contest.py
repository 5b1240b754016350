"""Timing in turns: contestants of known speed, broken ones, and the choice that `auto` makes."""

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
from paraexport.timing.contest import Burst, Contestant, Rules, Timing
from paraexport.timing.machine_load import CpuTime
from paraexport.timing.stability import StoppingRule

SLEEPS = (
    "import time; from paraexport.timing import contest; contest.serve(lambda batch: time.sleep(batch * {seconds}))"
)

SHORT = Rules(rounds=2, burst_s=0.02, rest_s=0)


def sleeper(seconds: float) -> Contestant:
    return Contestant(f"{seconds} s", [sys.executable, "-c", SLEEPS.format(seconds=seconds)])


def script(name: str, code: str) -> Contestant:
    return Contestant(name, [sys.executable, "-c", code])


def run(contestants: Sequence[Contestant], batches: Sequence[int] = (1,), rules: Rules = SHORT) -> dict[str, Timing]:
    return contest.run(contestants, batches, rules)


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
    contest.run([script(name, code.format(name=name)) for name in "ab"], (1,), Rules(rounds=2, burst_s=0, rest_s=0))
    assert (tmp_path / "log").read_text() == "ababab"


def test_a_contestant_that_cannot_run_keeps_its_reason_and_the_others_are_timed() -> None:
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


def test_output_on_stderr_never_blocks_a_contestant() -> None:
    noisy = "import sys; print('x' * 300_000, file=sys.stderr)\n" + SLEEPS.format(seconds=0)
    assert run([script("noisy", noisy)])["noisy"].failure == ""


def test_lines_that_a_library_prints_before_the_answer_are_skipped() -> None:
    greeting = "print('welcome'); print(3)\n" + SLEEPS.format(seconds=0)
    assert run([script("greets", greeting)])["greets"].failure == ""


def test_a_contestant_that_never_answers_is_killed() -> None:
    hangs = script("hangs", "import time; time.sleep(60)")
    assert run([hangs], rules=Rules(load_at_most_s=0.5))["hangs"].failure == "no answer within 0.5 s"


def test_an_answer_without_latencies_is_a_failure() -> None:
    empty = "print('{}', flush=True); input(); print('[]', flush=True); input()"
    assert run([script("empty", empty)])["empty"].failure == "it answered without latencies"


def test_facts_that_a_contestant_reports_are_kept() -> None:
    code = "from paraexport.timing import contest; contest.serve(lambda _: None, {'open_s': 1.5}, until_idle=True)"
    assert run([script("reports", code)])["reports"].facts == {"open_s": 1.5}


def test_a_burst_has_at_least_the_calls_that_are_asked_for() -> None:
    timing = run([sleeper(0)], rules=Rules(rounds=1, burst_s=0, rest_s=0, calls_at_least=3))["0 s"]
    assert [len(burst.latencies_ms) for burst in timing.bursts[1]] == [3]


def test_the_median_of_all_bursts() -> None:
    bursts = [Burst((9.0, 1.0, 5.0)), Burst((2.0,), 0.5), Burst((4.0, 4.0), 0.1)]
    timing = Timing({1: tuple(bursts), 8: (Burst((7.0,)),)})
    assert timing.bursts_ms == {1: (5.0, 2.0, 4.0), 8: (7.0,)}
    assert (timing.median_ms(1), timing.median_ms(8)) == (4.0, 7.0)
    assert (timing.summary(1).calls, timing.summary(1).fastest_ms) == (6, 1.0)
    assert timing.other_cpus(1) == pytest.approx(0.3)
    assert timing.other_cpus(8) is None


def test_every_contestant_takes_every_place_equally_often() -> None:
    assert ["".join(contest.in_turn("ab", number)) for number in range(4)] == ["ab", "ba", "ba", "ab"]
    rounds = ["".join(contest.in_turn("abc", number)) for number in range(6)]
    assert sorted(rounds) == ["abc", "acb", "bac", "bca", "cab", "cba"]


class FakeProcess:
    """Answers bursts with given latencies; the second value is the CPUs that others used meanwhile."""

    def __init__(self, answers: list[tuple[float, float]]) -> None:
        self.answers, self.failure = answers, ""
        self.popen = self
        self.pid, self.other_cpus = 0, 0.0

    def burst(self, *_: object, **__: object) -> list[float]:
        latency_ms, self.other_cpus = self.answers.pop(0)
        return [latency_ms]


def fake_burst(monkeypatch: pytest.MonkeyPatch, answers: list[tuple[float, float]], rules: Rules) -> Burst | None:
    process = FakeProcess(answers)
    moments = iter(range(100))

    def now(_: object) -> CpuTime:
        """One second passes between two calls; the process itself uses no CPU."""
        moment = next(moments)
        return CpuTime(moment, process.other_cpus if moment % 2 else 0.0, 0.0)

    monkeypatch.setattr(CpuTime, "now", now)
    return contest.quiet_burst(process, 1, rules)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([(5.0, 0.1), (1.0, 0.0)], Burst((5.0,), 0.1)),
        ([(5.0, 0.8), (6.0, 0.05), (1.0, 0.0)], Burst((6.0,), 0.05)),
        ([(5.0, 0.8), (6.0, 0.4), (7.0, 0.6)], Burst((6.0,), 0.4)),
    ],
    ids=["quiet at once", "quiet at last", "never quiet"],
)
def test_a_disturbed_burst_is_repeated_and_the_quietest_counts(
    monkeypatch: pytest.MonkeyPatch, answers: list[tuple[float, float]], expected: Burst
) -> None:
    assert fake_burst(monkeypatch, answers, Rules(rest_s=0, attempts=3, quiet_cpus=0.1)) == expected


def rounds_of(monkeypatch: pytest.MonkeyPatch, latencies: dict[str, list[float]], rules: Rules) -> dict[str, int]:
    """How many bursts count, for contestants whose bursts take these ms."""

    def burst(process: list[float], *_: object) -> Burst:
        return Burst((process.pop(0),))

    class Running(list[float]):
        failure = ""

    monkeypatch.setattr(contest, "quiet_burst", burst)
    processes = {name: Running(values) for name, values in latencies.items()}
    bursts = contest.run_batch_size(processes, 1, rules, lambda _: None)  # type: ignore[arg-type]
    return {name: len(own) for name, own in bursts.items()}


def test_rounds_go_on_until_the_last_bursts_of_all_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = Rules(rounds=3, warm_up_rounds=0, stop=StoppingRule(windows=3, within=0.1, at_most=6))
    steady, late, never = [10.0] * 9, [20.0, 15.0, 10.0, 10.5, 11.0] + [1.0] * 9, [1.0, 2.0] * 9
    assert rounds_of(monkeypatch, {"steady": steady[:]}, rules) == {"steady": 3}
    assert rounds_of(monkeypatch, {"steady": steady[:], "late": late[:]}, rules) == {"steady": 5, "late": 5}
    assert rounds_of(monkeypatch, {"steady": steady[:], "never": never[:]}, rules) == {"steady": 6, "never": 6}
    assert rounds_of(monkeypatch, {"never": never[:]}, Rules(rounds=4)) == {"never": 4}


WORKLOAD = targets.Workload(image=(1, 8, 8), max_batch=64)


def choose_from(
    monkeypatch: pytest.MonkeyPatch, figures: dict[str, tuple[float, float] | str]
) -> dict[str, tuple[bool, str]]:
    timings = {
        f"target, {layout}": Timing({}, figure)
        if isinstance(figure, str)
        else Timing({1: (Burst(figure[:1]),), 8: (Burst(figure[1:]),)})
        for layout, figure in figures.items()
    }
    monkeypatch.setattr(contest, "run", lambda *_: timings)
    candidates = candidate_times.time_candidates([("target", layout, Path()) for layout in figures], WORKLOAD)
    return {candidate.layout: (candidate.chosen, candidate.failure) for candidate in candidates}


def test_the_fastest_over_all_batch_sizes_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    # relative to the best: 1.5 x 1, 1 x 1.4, 1.1 x 1.2
    candidates = choose_from(monkeypatch, {"a": (1.5, 10.0), "b": (1.0, 14.0), "c": (1.1, 12.0), "d": "cannot"})
    assert candidates == {"a": (False, ""), "b": (False, ""), "c": (True, ""), "d": (False, "cannot")}


def test_if_no_candidate_runs_every_reason_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingError, match="a: this; target, b: that"):
        choose_from(monkeypatch, {"a": "this", "b": "that"})


def test_batches_are_within_the_limit() -> None:
    assert [candidate_times.batches_up_to(limit) for limit in (1, 4, 8, 64)] == [(1,), (1, 4), (1, 8), (1, 8)]


def test_an_auto_build_times_all_layouts_and_keeps_the_fastest(small: Path, tmp_path: Path) -> None:
    built = paraexport.build(small, tmp_path / "a.bundle", layout="auto", max_batch=1)
    timed = built.manifest.candidates
    assert [candidate.layout for candidate in timed] == ["branches", "folded", "stacked"]
    (fastest,) = (candidate for candidate in timed if candidate.chosen)
    assert fastest.latency_ms["1"] == min(candidate.latency_ms["1"] for candidate in timed)
    assert (built.manifest.target, built.manifest.layout) == (fastest.target, fastest.layout)
    images, logits = read(built.files)
    assert abs(load(built.path)(images) - logits).max() <= 1e-5 * abs(logits).max()


def test_a_file_in_the_current_folder_does_not_replace_a_library(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('not the library')")
    monkeypatch.chdir(tmp_path)
    built = paraexport.build(small, tmp_path / "a.bundle", layout="auto", max_batch=1)
    assert not any(candidate.failure for candidate in built.manifest.candidates)


def test_without_a_target_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
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
    names = ["".join(contestant.name for contestant in group) for group in candidate_times.groups(contestants, sizes)]
    assert names == expected
