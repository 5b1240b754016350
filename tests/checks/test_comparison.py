"""Each check fails on a deliberately wrong engine, and none passes having checked nothing."""

import numpy as np
import pytest
from numpy.typing import NDArray

from paraexport.checks.comparison import Logits, Pair, compare
from paraexport.checks.verdicts import Evidence, make_checks, moved_limits, require_passed, run_checks
from paraexport.errors import CheckFailed, DataError, InputError
from paraexport.findings.checks import Check

IMAGES = np.random.default_rng(0).normal(size=(20, 1, 2, 3)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)


def right(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return images.reshape(-1, 6) @ WEIGHTS


LABELS = right(IMAGES).argmax(1)


def pairs(*batches: NDArray[np.float32]) -> list[Pair]:
    return [(images, right(images)) for images in batches]


NOTHING = Evidence((), None, IMAGES, right(IMAGES))


def run(
    engine: Logits, moved: dict[str, float] | None = None, labels: NDArray[np.int64] | None = LABELS
) -> dict[str, Check]:
    everything = compare(engine, pairs(IMAGES[:13], IMAGES[13:]), labels, tie=1e-5)
    sizes = compare(engine, pairs(IMAGES[:1], IMAGES[:2], IMAGES[:7]), None, tie=1e-5)
    return {check.name: check for check in make_checks("fp32", everything, sizes, NOTHING, moved)}


def test_an_equal_engine_passes_every_check() -> None:
    done = run(right)
    assert [check.passed for check in done.values()] == [True] * 4
    assert done["parity"].samples == 20
    require_passed(done.values(), lambda: "")


def test_a_small_error_fails_parity_alone_and_says_by_how_much() -> None:
    done = run(lambda images: right(images) * np.float32(1.001))
    assert [name for name, check in done.items() if check.passed is False] == ["parity", "batches"]
    assert done["parity"].value == pytest.approx(1e-3, rel=1e-3)
    with pytest.raises(CheckFailed, match=r"parity is 0.001.*parity at most 1e-05.*branches.1"):
        require_passed(done.values(), lambda: "the first difference is at branches.1/layers.0")


def test_swapped_classes_fail_disagreement_and_accuracy() -> None:
    done = run(lambda images: right(images)[:, ::-1])
    assert done["disagreement"].passed is False
    assert done["disagreement"].value == 100.0
    assert done["accuracy_drop"].passed is False
    assert done["accuracy_drop"].value == 100.0


def test_an_engine_that_is_wrong_at_one_batch_size_fails_batches() -> None:
    done = run(lambda images: right(images) + np.float32(len(images) == 2))
    assert [name for name, check in done.items() if check.passed is False] == ["batches"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_never_passes(value: float) -> None:
    done = run(lambda images: np.full_like(right(images), value))
    assert done["parity"].passed is False


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_a_model_that_answers_nothing_but_zeros_passes_where_the_engine_does_too(precision: str) -> None:
    """And nowhere else."""

    def nothing(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros_like(right(images))

    evidence = Evidence([(IMAGES, nothing(IMAGES))], None, IMAGES[:4], nothing(IMAGES[:4]))
    for engine, passes in ((nothing, True), (right, False), (lambda images: right(images) * np.float32("nan"), False)):
        done = run_checks(precision, engine, evidence, max_batch=5).checks
        (cosine,) = (check for check in done if check.name == "cosine")
        assert cosine.passed is passes


def test_a_check_without_labels_is_not_run_and_not_passed() -> None:
    done = run(right, labels=None)
    assert done["accuracy_drop"].passed is None
    assert "not run" in done["accuracy_drop"].reason


def test_a_moved_limit_says_so_and_an_unknown_one_is_refused() -> None:
    done = run(lambda images: right(images) * np.float32(1.001), {"parity": 0.01, "batches": 0.01})
    assert done["parity"].passed
    assert done["parity"].reason == "moved from 1e-05"
    with pytest.raises(InputError, match=r"unknown check .*parity"):
        run(right, {"partiy": 1.0})


@pytest.mark.parametrize("batches", [[], [IMAGES[:0]]])
def test_nothing_checked_is_an_error(batches: list[NDArray[np.float32]]) -> None:
    with pytest.raises(DataError, match="no image to check with"):
        compare(right, pairs(*batches), None, tie=0)


@pytest.mark.parametrize(("answer", "disagreements"), [(0, 0), (1, 0), (2, 20)])
def test_a_tie_is_no_disagreement_but_another_class_is(answer: int, disagreements: int) -> None:
    def tied(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.tile(np.array([1, 1 + 1e-6, 0], np.float32), (len(images), 1))

    def answers(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.tile(np.eye(3, dtype=np.float32)[answer], (len(images), 1))

    assert compare(answers, [(IMAGES, tied(IMAGES))], None, tie=1e-5).disagreements == disagreements


@pytest.mark.parametrize("wrong_size", [1, 2, 3, 5, 7])
def test_the_checks_of_an_engine_try_one_image_two_seven_the_largest_batch_and_those_with_kernels(
    wrong_size: int,
) -> None:
    def engine(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return right(images) + np.float32(len(images) == wrong_size)

    evidence = Evidence(pairs(IMAGES), LABELS, IMAGES[:4], right(IMAGES[:4]), batches=(3,))
    done = run_checks("fp32", engine, evidence, max_batch=5).checks
    assert [check.name for check in done if check.passed is False] == ["batches"]


def test_limits_that_were_moved_are_found_again() -> None:
    assert moved_limits(run(right).values(), "fp32") == {}
    assert moved_limits(run(right, {"parity": 1e-3, "accuracy_drop": 0.5}).values(), "fp32") == {
        "parity": 1e-3,
        "accuracy_drop": 0.5,
    }


def test_a_limit_that_cannot_be_missed_is_no_pass() -> None:
    logits = np.eye(4, dtype=np.float32)
    evidence = Evidence([(logits, logits)], np.arange(4), logits, logits)
    moved = {"disagreement": 100.0, "accuracy_drop": 100.0, "parity": 1.0}
    done = {
        check.name: check
        for check in run_checks("fp32", lambda images: images, evidence, max_batch=2, moved=moved).checks
    }
    assert [(done[name].passed, done[name].value) for name in ("disagreement", "accuracy_drop")] == [(None, 0.0)] * 2
    assert done["parity"].passed is True
    broken = run_checks("fp32", lambda images: images * np.nan, evidence, max_batch=2, moved=moved).checks
    assert [check.passed for check in broken if check.name == "parity"] == [False]
