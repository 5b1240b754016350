"""The smallest set is as small as brute force finds, and an unreachable limit reports the best set."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from paraexport.errors import CheckFailed, InputError
from paraexport.precision.branch_terms import find_branch_terms
from paraexport.precision.calibration.calibrators import Scale
from paraexport.precision.int8 import for_target
from paraexport.precision.int8.errors_at_sum import ErrorMeter, SumErrors, lower_parts
from paraexport.precision.int8.kept_parts import MOST_TRIED, KeptParts, candidate_sets, smallest_set
from paraexport.precision.int8.lowering import check_parts, describe_choice
from paraexport.precision.judge import Judge
from paraexport.precision.preparation import Prepared, prepare
from paraexport.precision.running import open_head
from tests.precision.small import TEST_IMAGES, batches, calibration, on_runtime, traced_file

Reals = NDArray[np.float32]
BRANCHES, LAYERS, IMAGES, DIM, CLASSES = 3, 2, 80, 4, 3


class DrawnProblem:
    """A head on a sum of branches, and errors of its parts, all drawn; errors of layers add up exactly."""

    def __init__(self, seed: int, size: float, *, with_labels: bool = True) -> None:
        numbers = np.random.default_rng(seed)
        self.weights = numbers.standard_normal((DIM, CLASSES)).astype(np.float32)
        total = numbers.standard_normal((IMAGES, DIM)).astype(np.float32)
        sizes = size * numbers.exponential(1, (BRANCHES, LAYERS)) ** 2
        self.parts = {
            f"branches.{b}/layers.{m}": (sizes[b, m] * numbers.standard_normal((IMAGES, DIM))).astype(np.float32)
            for b in range(BRANCHES)
            for m in range(LAYERS)
        }
        whole = {
            f"branches.{b}": np.sum([self.parts[f"branches.{b}/layers.{m}"] for m in range(LAYERS)], axis=0)
            for b in range(BRANCHES)
        }
        self.errors = SumErrors(total, np.sum([*whole.values()], axis=0), whole, self.parts)
        reference = total @ self.weights
        labels = np.where(numbers.random(IMAGES) < 0.8, reference.argmax(1), numbers.integers(0, CLASSES, IMAGES))
        self.judge = Judge(reference, labels if with_labels else None)

    def head(self, sums: Reals) -> Reals:
        return sums @ self.weights

    def lost(self, kept: Sequence[str]) -> float:
        """In float64, from the parts alone."""
        error = np.sum(
            [np.zeros((IMAGES, DIM)), *(one for part, one in self.parts.items() if part not in kept)], axis=0
        )
        answer = ((self.errors.total + error) @ self.weights.astype(np.float64)).argmax(1)
        reference = self.judge.reference.argmax(1)
        if self.judge.labels is None:
            return float(np.mean(answer != reference) * 100)
        return float((np.mean(reference == self.judge.labels) - np.mean(answer == self.judge.labels)) * 100)

    def subsets(self) -> Iterator[tuple[str, ...]]:
        """All but everything, smallest first."""
        for size in range(len(self.parts)):
            yield from itertools.combinations(self.parts, size)

    def choose(self, allowed: float) -> KeptParts:
        return smallest_set(self.errors, self.head, self.judge, allowed, self.lost)


@given(
    st.integers(0, 10000), st.sampled_from([0.01, 0.1, 0.3, 1.0]), st.sampled_from([0.0, 1.0, 2.5, 5.0]), st.booleans()
)
@settings(max_examples=60, deadline=None)
def test_as_few_parts_as_brute_force_over_all_choices(seed: int, size: float, allowed: float, labelled: bool) -> None:
    problem = DrawnProblem(seed, size, with_labels=labelled)
    choice = problem.choose(allowed)
    fewest = next((len(kept) for kept in problem.subsets() if problem.lost(kept) <= allowed), None)
    assert choice.met is (fewest is not None)
    assert choice.drop_pp == pytest.approx(problem.lost(choice.kept))
    if fewest is not None:
        assert len(choice.kept) == fewest
        assert choice.drop_pp <= allowed
    else:
        assert choice.drop_pp == pytest.approx(min(map(problem.lost, problem.subsets()))), "the best possible"


def test_what_cannot_be_met_says_the_best_that_was_reached() -> None:
    problem = DrawnProblem(3, 3.0)
    choice = problem.choose(-100)
    assert not choice.met
    assert choice.kept, "keeping something is better than nothing"
    assert choice.drop_pp < problem.lost(())
    with pytest.raises(CheckFailed, match=rf"int8 cannot stay within --max-drop.*{choice.kept[0]}.*best of all tried"):
        describe_choice(choice, -100, problem.judge)


def test_a_choice_that_only_looks_good_is_not_taken() -> None:
    """The estimate is that nothing is lost; the lowered model loses accuracy until a branch is kept."""
    problem = DrawnProblem(0, 1e-9)
    asked = []

    def confirm(kept: tuple[str, ...]) -> float:
        asked.append(kept)
        return 0.0 if "branches.1/layers.0" in kept or len(kept) > 2 else 50.0

    choice = smallest_set(problem.errors, problem.head, problem.judge, 1.0, confirm)
    assert choice.met
    assert asked[0] == ()
    assert choice.kept in asked
    assert choice.drop_pp == 0.0


def test_nothing_looks_good_and_the_lowered_model_is_asked_all_the_same() -> None:
    problem = DrawnProblem(3, 3.0)
    choice = smallest_set(problem.errors, problem.head, problem.judge, 0.0, lambda kept: 0.0)
    assert (choice.kept, choice.met) == ((), True)


@pytest.mark.parametrize("parts", [1, 2, 8, 32, 64])
def test_choices_are_all_of_them_or_those_among_the_worst(parts: int) -> None:
    numbers = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        f"branches.{i}": numbers.standard_normal((2, 3)).astype(np.float32) * (i + 1) for i in range(parts)
    }
    errors = SumErrors(arrays["branches.0"], arrays["branches.0"], arrays, arrays)
    worst = sorted(arrays, key=lambda part: -np.linalg.norm(arrays[part]))
    for size in range(min(parts, 6)):
        problem = [*candidate_sets(errors, size)]
        assert 1 <= len(problem) <= MOST_TRIED
        assert len({frozenset(kept) for kept in problem}) == len(problem)
        assert frozenset(worst[:size]) in {frozenset(kept) for kept in problem}
        if parts <= 8:
            assert {frozenset(kept) for kept in problem} == {frozenset(c) for c in itertools.combinations(arrays, size)}


def test_the_judge_counts_images() -> None:
    reference = np.eye(4, dtype=np.float32)
    logits = reference[[1, 1, 2, 3]]
    assert Judge(reference, None).drop_pp(logits) == 25
    assert Judge(reference, np.array([0, 1, 2, 2])).drop_pp(logits) == 25
    assert Judge(reference, np.array([1, 1, 2, 2])).drop_pp(logits) == -25, "a gain"
    assert Judge(reference, np.array([3, 1, 2, 2])).drop_pp(logits) == 0


def real(folder: Path) -> tuple[Prepared, dict[str, Scale]]:
    prepared = prepare(traced_file(folder), "folded", (), equalised=True)
    scales = for_target.find_scales(prepared, calibration(folder), signed=False)
    # One branch is ruined: its activations have room for three numbers only.
    coarse = {
        name: Scale(scale.scale * 60, scale.zero_point // 60, scale.signed) if name.startswith("branches.2/") else scale
        for name, scale in scales.items()
    }
    return prepared, coarse


def test_a_real_model_with_one_ruined_branch(tmp_path: Path) -> None:
    prepared, scales = real(tmp_path)
    terms = find_branch_terms(prepared.model.graph)
    assert terms is not None
    errors = ErrorMeter(prepared.model, scales, terms).measure(batches(TEST_IMAGES)())
    reference = on_runtime(prepared.model)[0]
    judge = Judge(reference, None)

    def confirm(kept: tuple[str, ...]) -> float:
        rest = [part for part in errors.parts if part not in kept]
        return judge.drop_pp(on_runtime(lower_parts(prepared.model, scales, rest))[0])

    head = open_head(prepared.model, terms.total)
    np.testing.assert_allclose(head(errors.total), reference, rtol=0, atol=1e-5 * np.abs(reference).max())
    allowed = 5.0
    choice = smallest_set(errors, head, judge, allowed, confirm)
    subsets = (kept for size in range(len(errors.parts)) for kept in itertools.combinations(errors.parts, size))
    fewest = next(kept for kept in subsets if confirm(kept) <= allowed)
    assert confirm(()) > allowed
    assert choice.met
    assert choice.drop_pp == confirm(choice.kept) <= allowed
    assert len(choice.kept) == len(fewest)
    assert all(part.startswith("branches.2") for part in choice.kept)


@pytest.mark.parametrize("keep", [("branches.9",), ("branches.1/layers.0", "branches.01"), ("branches",), ("",)])
def test_parts_that_do_not_exist_are_named(keep: tuple[str, ...]) -> None:
    parts = [f"branches.{b}/layers.{m}" for b in range(3) for m in range(2)]
    with pytest.raises(InputError, match=rf"no such part: {keep[-1]}.*branches\.0/layers\.0.*…"):
        check_parts(keep, parts)
    check_parts(("branches.1", "branches.2/layers.1"), parts)
    with pytest.raises(InputError, match="none: no node is named after a branch"):
        check_parts(("branches.0",), [])
