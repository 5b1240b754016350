"""Errors at the sum over branches, against graphs in which one part alone is really lowered."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from paraexport.precision.branch_terms import BranchTerms, find_branch_terms
from paraexport.precision.calibration.calibrators import Scale
from paraexport.precision.int8 import for_target
from paraexport.precision.int8.errors_at_sum import ErrorMeter, SumErrors, lower_parts, norm
from paraexport.precision.int8.linears import parts_of
from paraexport.precision.preparation import prepare
from tests.precision.small import KINDS, TEST_IMAGES, batches, calibration, on_runtime, spec_of, traced_file

CASES = {**KINDS, "normalized, one layer": {"depth": 1, "branches": 4}, "three layers": {"depth": 3, "branches": 2}}
cases = pytest.mark.parametrize("name", CASES)


@functools.lru_cache
def measured(name: str) -> tuple[Any, dict[str, Scale], BranchTerms, SumErrors]:
    with tempfile.TemporaryDirectory() as folder:
        traced = traced_file(Path(folder), **CASES[name])
        prepared = prepare(traced, "folded", (), equalised=True)
        scales = for_target.find_scales(prepared, calibration(Path(folder)), signed=False)
    terms = find_branch_terms(prepared.model.graph)
    assert terms is not None
    return prepared.model, scales, terms, ErrorMeter(prepared.model, scales, terms).measure(batches(TEST_IMAGES)())


def really_lowered(model: Any, scales: dict[str, Scale], terms: BranchTerms, *parts: str) -> NDArray[np.float64]:
    """The error of the sum in ONNX Runtime when only these parts are in int8."""
    (exact,) = on_runtime(model, TEST_IMAGES, terms.total)
    (got,) = on_runtime(lower_parts(model, scales, parts), TEST_IMAGES, terms.total)
    return got.astype(np.float64) - exact


def distance(one: NDArray[Any], other: NDArray[Any]) -> float:
    """‖one − other‖ / ‖other‖."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


@cases
def test_the_errors_of_the_branches_add_up_to_that_of_the_sum(name: str) -> None:
    model, scales, terms, errors = measured(name)
    assert errors.additivity <= 1e-3
    together = really_lowered(model, scales, terms, *errors.parts)
    assert distance(errors.together, together) <= 1e-3
    assert distance(np.sum([*errors.branches.values()], axis=0), together) <= 1e-3


@cases
def test_the_error_of_each_branch_is_that_of_lowering_it_alone(name: str) -> None:
    model, scales, terms, errors = measured(name)
    assert [*errors.branches] == [f"branches.{index}" for index in range(spec_of(**CASES[name]).branches)]
    for branch, error in errors.branches.items():
        assert distance(error, really_lowered(model, scales, terms, branch)) <= 1e-3


@cases
def test_the_error_of_each_layer_is_that_of_lowering_it_alone(name: str) -> None:
    model, scales, terms, errors = measured(name)
    assert [*errors.parts] == parts_of(model.graph)
    assert len(errors.parts) == spec_of(**CASES[name]).branches * spec_of(**CASES[name]).depth
    for part, error in errors.parts.items():
        assert distance(error, really_lowered(model, scales, terms, part)) <= 1e-3


@cases
def test_the_sum_itself_and_relative_errors(name: str) -> None:
    model, _, terms, errors = measured(name)
    (exact,) = on_runtime(model, TEST_IMAGES, terms.total)
    np.testing.assert_allclose(errors.total, exact, rtol=0, atol=1e-5 * np.abs(exact).max())
    assert errors.relative(errors.together) == pytest.approx(
        np.linalg.norm(errors.together.astype(float)) / np.linalg.norm(exact.astype(float)), rel=1e-5
    )
    assert 1e-4 < errors.relative(errors.together) < 0.1


@cases
def test_keeping_whole_branches_is_told_exactly(name: str) -> None:
    model, scales, terms, errors = measured(name)
    branches = [*errors.branches]
    for kept in (branches[:1], branches[1:]):
        rest = [branch for branch in branches if branch not in kept]
        assert distance(errors.with_kept(kept), really_lowered(model, scales, terms, *rest)) <= 1e-3
        layers = [part for part in errors.parts if part.split("/")[0] in kept]
        np.testing.assert_array_equal(errors.with_kept(layers), errors.with_kept(kept))
    assert not errors.with_kept(branches).any()
    assert distance(errors.with_kept([]), errors.together) <= 1e-3


def test_keeping_one_layer_is_told_nearly() -> None:
    model, scales, terms, errors = measured("normalized, cls")
    for part in errors.parts:
        rest = [other for other in errors.parts if other != part]
        assert distance(errors.with_kept([part]), really_lowered(model, scales, terms, *rest)) <= 0.2


def test_a_model_that_answers_zero_has_no_relative_error() -> None:
    nothing = np.zeros((2, 3), np.float32)
    errors = SumErrors(nothing, nothing, {"branches.0": nothing}, {"branches.0": nothing})
    assert errors.additivity == errors.relative(nothing) == norm(nothing) == 0
