"""Meaning of outputs: scores as in PyTorch, answers, and comparisons of probabilities on the scale of logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from paraexport.checks.comparison import Logits
from paraexport.checks.verdicts import Evidence, run_checks
from paraexport.errors import InputError, SpecError
from paraexport.findings.checks import Check
from paraexport.model.scores import class_names, ranked, recorded, scores_of, usable
from paraexport.model.spec import LOGITS, Scores, ScoreWord
from paraexport.pipeline.settle_scores import settle
from paraexport.precision.judge import Judge
from paraexport.trace.endings import Ending

Array = NDArray[np.float32]
LOGIT = np.random.default_rng(0).normal(0, 6, (60, 4)).astype(np.float32)
SIGMOID, PROBABILITIES = Scores("sigmoid", "independent"), Scores("none", "exclusive")
EACH, LOGARITHMS = Scores("none", "independent"), Scores("exp", "exclusive")
FREE = Ending("Gemm", -np.inf, np.inf, logarithm=False)


def through(function: object, values: Array = LOGIT) -> Array:
    return np.asarray(function(torch.from_numpy(values)).numpy(), np.float32)  # type: ignore[operator]


def softmax(values: torch.Tensor) -> torch.Tensor:
    return values.softmax(1)


def log_softmax(values: torch.Tensor) -> torch.Tensor:
    return values.log_softmax(1)


@pytest.mark.parametrize(
    ("outputs", "scores", "expected"),
    [
        (LOGIT, LOGITS, through(softmax)),
        (LOGIT, SIGMOID, through(torch.sigmoid)),
        (through(log_softmax), LOGARITHMS, through(softmax)),
        (through(softmax), PROBABILITIES, through(softmax)),
        (LOGIT, Scores("none", "ranking"), LOGIT),
        (np.array([[1e4, -1e4]], np.float32), SIGMOID, np.array([[1.0, 0.0]])),
        (np.array([[1e4, -1e4]], np.float32), LOGITS, np.array([[1.0, 0.0]])),
    ],
)
def test_scores_are_those_of_pytorch(outputs: Array, scores: Scores, expected: Array) -> None:
    assert np.abs(scores_of(outputs, scores) - expected).max() < 1e-6


def run(
    precision: str, scores: Scores, expected: Array, engine: Array, labels: NDArray[np.int64] | None = None
) -> dict[str, Check]:
    """The checks of an engine that answers `engine` to the images whose right answers are `expected`."""
    images = np.arange(len(expected), dtype=np.float32)[:, None, None, None]

    def answer(asked: Array) -> Array:
        return engine[asked[:, 0, 0, 0].astype(int)]

    wrapped: Logits = answer
    evidence = Evidence([(images, expected)], labels, images[:8], expected[:8], scores=scores)
    return {check.name: check for check in run_checks(precision, wrapped, evidence, max_batch=8).checks}


def failed(done: dict[str, Check]) -> set[str]:
    return {name for name, check in done.items() if check.passed is False}


ONE = LOGIT[:, :1]
YES = (ONE[:, 0] > 0).astype(np.int64)


@pytest.mark.parametrize(
    ("scores", "right", "turned"),
    [
        (SIGMOID, ONE, -ONE),
        (EACH, through(torch.sigmoid, ONE), through(torch.sigmoid, -ONE)),
        (Scores("exp", "independent"), through(torch.nn.functional.logsigmoid, ONE),
         through(torch.nn.functional.logsigmoid, -ONE)),
    ],
)  # fmt: skip
def test_the_checks_of_one_output_fail_when_yes_becomes_no(scores: Scores, right: Array, turned: Array) -> None:
    good = run("fp32", scores, right, right, YES)
    assert [check.passed for check in good.values()] == [True] * 4
    done = run("fp32", scores, right, turned, YES)
    assert (done["disagreement"].value, done["accuracy_drop"].value) == (100, 100)
    assert "yes-or-no" in done["disagreement"].unit
    loose = run("int8", scores, right, right.copy(), YES)
    assert loose["disagreement"].samples == 60


def test_one_output_that_is_next_to_the_threshold_is_a_tie() -> None:
    right, engine = ONE.copy(), ONE.copy()
    right[0], engine[0] = 1e-6, -1e-6
    assert run("fp32", SIGMOID, right, engine)["disagreement"].value == 0
    right[0] = engine[0] = 0.1
    engine[0] *= -1
    assert run("fp32", SIGMOID, right, engine)["disagreement"].value == pytest.approx(100 / 60)


def test_a_class_of_several_that_changes_sides_counts_as_its_share() -> None:
    engine = LOGIT.copy()
    engine[5, 2] *= -1
    done = run("fp32", SIGMOID, LOGIT, engine)
    assert done["disagreement"].value == pytest.approx(100 / LOGIT.size)


def test_a_logit_that_is_off_fails_parity_behind_a_softmax_too() -> None:
    """If one class is nearly certain, the probabilities hardly move: by 3e-5, while the logit moves by 20 %."""
    logits = np.array([[9.0, 0.0, -3.0]] * 8, np.float32)
    wrong = logits.copy()
    wrong[0] = [9.0, 0.2, -5.0]
    probabilities, off = through(softmax, logits), through(softmax, wrong)
    assert np.abs(off - probabilities).max() / probabilities.max() < 1e-4
    assert failed(run("fp16", PROBABILITIES, probabilities, probabilities)) == set()
    assert failed(run("fp16", PROBABILITIES, probabilities, off)) >= {"parity", "batches"}


@pytest.mark.parametrize(
    "engine", [LOGIT, through(softmax) * 3, np.full_like(LOGIT, np.nan), np.full_like(LOGIT, np.inf)]
)
@pytest.mark.parametrize("scores", [PROBABILITIES, EACH])
def test_what_is_no_probability_never_passes_for_one(scores: Scores, engine: Array) -> None:
    expected = through(softmax if scores is PROBABILITIES else torch.sigmoid)
    assert "parity" in failed(run("int8", scores, expected, engine))


def test_rounding_of_probabilities_passes_in_float32() -> None:
    for scores, function in ((PROBABILITIES, softmax), (EACH, torch.sigmoid), (LOGARITHMS, log_softmax)):
        close = LOGIT * np.float32(1 + 1e-6)
        assert failed(run("fp32", scores, through(function), through(function, close))) == set()


def test_a_probability_of_zero_has_a_logarithm_that_does_not_fail_a_check() -> None:
    expected = np.array([[0.0, -np.inf]] * 8, np.float32)
    assert failed(run("fp32", LOGARITHMS, expected, expected)) == set()
    assert usable(expected, LOGARITHMS)
    assert not usable(expected, LOGITS)


def test_values_have_parity_and_no_answers() -> None:
    done = run("fp32", Scores("none", "values"), LOGIT, LOGIT, np.zeros(60, np.int64))
    assert {name for name, check in done.items() if check.passed} == {"parity", "batches"}
    assert {check.reason for check in done.values() if check.passed is None} == {
        "not run: the outputs are values, not classes"
    }
    with pytest.raises(InputError, match=r"--max-drop: .*--limit parity"):
        Judge(LOGIT, None, Scores("none", "values")).drop_pp(LOGIT)


def test_what_is_lost_of_one_output() -> None:
    assert Judge(ONE, None, SIGMOID).drop_pp(-ONE) == 100
    assert Judge(ONE, YES, SIGMOID).drop_pp(-ONE) == 100
    assert Judge(ONE, YES, SIGMOID).drop_pp(ONE) == 0


# ---- what they are ----

ONES = np.ones((8, 1), np.float32)


@pytest.mark.parametrize(
    ("word", "source", "ending", "outputs", "expected", "assumed"),
    [
        (None, "", FREE, LOGIT, ("softmax", "exclusive"), ""),
        (None, "", FREE, ONE, ("sigmoid", "independent"), "one output"),
        (None, "", Ending("Softmax", 0, 1, logarithm=False), through(softmax), ("none", "exclusive"), ""),
        (None, "", FREE, through(softmax), ("none", "exclusive"), ""),
        (None, "", FREE, through(log_softmax), ("exp", "exclusive"), ""),
        (None, "", Ending("Sigmoid", 0, 1, logarithm=False), through(torch.sigmoid), ("none", "independent"), ""),
        (None, "", Ending("Sigmoid", 0, 1, logarithm=False), through(torch.sigmoid, ONE), ("none", "independent"), ""),
        (None, "", Ending("Log", -np.inf, 0, logarithm=True), -LOGIT**2, ("exp", "independent"), ""),
        (None, "", Ending("Tanh", -1, 1, logarithm=False), np.tanh(LOGIT), ("softmax", "exclusive"), "ends in Tanh"),
        (None, "", Ending("Mul", 0, 100, logarithm=False), LOGIT**2, ("none", "ranking"), "between 0 and 100"),
        (None, "", Ending("Softmax", 0, 1, logarithm=False), ONES, ("none", "independent"), "1 for every image"),
        ("sigmoid", "--spec", FREE, LOGIT, ("sigmoid", "independent"), ""),
        ("sigmoid", "a config", FREE, LOGIT, ("sigmoid", "independent"), ""),
        ("softmax", "--spec", FREE, through(softmax), ("softmax", "exclusive"), "sum to 1"),
        ("softmax", "a config", FREE, through(softmax), ("none", "exclusive"), ""),
        ("none", "--spec", FREE, through(softmax), ("none", "exclusive"), ""),
        ("none", "--spec", FREE, LOGIT, ("none", "ranking"), ""),
        ("none", "--spec", FREE, ONE, ("none", "values"), ""),
        ("regression", "a config", FREE, LOGIT, ("none", "values"), ""),
        ("exp", "--spec", FREE, through(log_softmax), ("exp", "exclusive"), ""),
    ],
)  # fmt: skip
def test_what_the_outputs_are(  # noqa: PLR0917
    word: ScoreWord | None, source: str, ending: Ending, outputs: Array, expected: tuple[str, str], assumed: str
) -> None:
    scores, assumptions = settle(word, source, ending, outputs)
    assert (scores.activation, scores.kind) == expected
    assert scores.reason
    assert not scores.problems(outputs.shape[1])
    assert [assumed in one.reason for one in assumptions] == [True] * bool(assumed)


@pytest.mark.parametrize(("word", "outputs"), [("softmax", ONE), ("exp", LOGIT)])
def test_words_that_cannot_be_true(word: ScoreWord, outputs: Array) -> None:
    with pytest.raises(SpecError, match=f"scores={word}, given by --spec"):
        settle(word, "--spec", FREE, outputs)


@pytest.mark.parametrize(
    ("scores", "outputs", "problem"),
    [
        (Scores("softmax", "independent"), 3, "scores by softmax are independent"),
        (Scores("sigmoid", "values"), 1, "scores by sigmoid are values"),
        (Scores("sigmoid", "independent", negative="no"), 2, "a negative label for 2 outputs"),
    ],
)
def test_what_a_manifest_may_not_say(scores: Scores, outputs: int, problem: str) -> None:
    assert scores.problems(outputs) == [problem]


def test_an_older_bundle_with_one_output_decides_by_sigmoid() -> None:
    assert recorded(LOGITS, 1).activation == "sigmoid"
    assert recorded(LOGITS, 2) is LOGITS


def test_labels_of_one_output() -> None:
    assert class_names(("1",), SIGMOID) == ("0", "1")
    assert class_names(("cat",), SIGMOID) == ("", "cat")
    named = Scores("sigmoid", "independent", negative="dog")
    assert class_names(("cat",), named) == ("dog", "cat")
    best = ranked(np.array([-2.0], np.float32), ("cat",), named)
    assert [one.label for one in best] == ["dog", "cat"]
    assert [one.score for one in best] == pytest.approx([0.8808, 0.1192], abs=1e-4)  # 1 / (1 + exp(-2))
