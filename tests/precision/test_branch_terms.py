"""The sum over branches and its terms are found by names; their values agree with NumPy and PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from paraexport.precision.branch_terms import BranchTerms, find_branch_terms
from paraexport.precision.preparation import prepare
from tests.precision.small import KINDS, TEST_IMAGES, on_runtime, relative, spec_of, traced_file
from tests.rewrite.graphs import graph64, model_of
from tests.rewrite.small_graphs import branches, graph_of, summed


def branch_outputs(images: np.ndarray[Any, Any], **fields: Any) -> list[np.ndarray[Any, Any]]:
    """The output of each branch in PyTorch, [B, N, D]."""
    model = model_of(spec_of(**fields))
    with torch.no_grad():
        tokens = model.embedding(torch.from_numpy(images))
        return [branch(tokens).numpy() for branch in model.branches]


@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
def test_the_sum_of_a_traced_model_and_what_each_branch_adds(fields: dict[str, Any], tmp_path: Path) -> None:
    model = ir.load(traced_file(tmp_path, **fields))
    branch_terms = find_branch_terms(model.graph)
    assert branch_terms is not None
    expected = branch_outputs(TEST_IMAGES[:4], **fields)
    assert [*branch_terms.terms] == [f"branches.{index}" for index in range(len(expected))]
    total, *terms = on_runtime(model, TEST_IMAGES[:4], *branch_terms.values)
    assert relative(total, np.sum(expected, axis=0)) <= 1e-5
    check_terms(branch_terms, terms, expected, float(np.abs(total).max()))


def check_terms(branch_terms: BranchTerms, terms: list[Any], expected: list[Any], scale: float) -> None:
    left = iter(terms)
    for names, whole in zip(branch_terms.terms.values(), expected, strict=True):
        check_branch(np.sum([next(left) for _ in names], axis=0), whole, scale)


def check_branch(got: Any, expected: Any, scale: float) -> None:
    """Compare up to a constant: a bias after the last product is a term of the sum that belongs to no branch."""
    apart = got.reshape(expected.shape) - expected
    assert np.abs(apart - apart[:1]).max() <= 1e-5 * scale


@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
def test_folded_it_is_of_the_tokens_that_are_read(fields: dict[str, Any], tmp_path: Path) -> None:
    model = prepare(traced_file(tmp_path, **fields), "folded", (), equalised=True).model
    branch_terms = find_branch_terms(model.graph)
    assert branch_terms is not None
    branch_count = spec_of(**fields).branches
    assert [*branch_terms.terms] == [f"branches.{index}" for index in range(branch_count)]
    total, *terms = on_runtime(model, TEST_IMAGES[:4], *branch_terms.values)
    outputs = branch_outputs(TEST_IMAGES[:4], **fields)
    read = [y.mean(1) if fields.get("pool") == "mean" else y[:, 0] for y in outputs]
    assert relative(total.reshape(4, -1), np.sum(read, axis=0)) <= 1e-5
    check_terms(branch_terms, terms, read, float(np.abs(total).max()))


@pytest.mark.parametrize(
    "total",
    [
        summed(3),
        "a = Add (y_0, y_1)\n y = Add (a, y_2)",
        "a = Add (y_1, y_2)\n y = Add (y_0, a)",
        "y = Sum (x, y_0, y_1, y_2)",
        "a = Add (x, y_0)\n c = Add (y_1, y_2)\n y = Add (a, c)",
    ],
    ids=["sum", "chain", "tree", "skip in it", "skip around it"],
)
def test_however_it_is_added_up(total: str) -> None:
    branch_terms = find_branch_terms(graph_of(branches(3), total).graph)
    assert branch_terms is not None
    assert branch_terms.total == "y"
    assert [*branch_terms.terms] == ["branches.0", "branches.1", "branches.2"]
    assert "x" not in branch_terms.values
    for index, names in enumerate(branch_terms.terms.values()):
        assert all(name.endswith(f"_{index}") for name in names)


def test_a_scaled_sum_and_one_that_goes_on_are_found() -> None:
    total = f"{summed(2).replace('y =', 't =')}\n    y = LayerNormalization <axis = -1> (t, s)"
    branch_terms = find_branch_terms(graph_of(branches(2), total).graph)
    assert branch_terms is not None
    assert branch_terms.total == "t"


def test_the_sum_in_which_most_branches_meet() -> None:
    total = "a = Add (y_0, y_1)\n r = Relu (a)\n b = Add (y_2, y_3)\n s = Sum (b, y_4, y_5)\n y = Add (r, s)"
    branch_terms = find_branch_terms(graph_of(branches(6), total).graph)
    assert branch_terms is not None
    assert {*branch_terms.terms} == {f"branches.{index}" for index in (2, 3, 4, 5)}


def test_names_with_something_in_front_of_them() -> None:
    model = graph_of(branches(2))
    for node in model.graph:
        node.name = f"encoder/{node.name}"
    branch_terms = find_branch_terms(model.graph)
    assert branch_terms is not None
    assert [*branch_terms.terms] == ["branches.0", "branches.1"]


def test_none_where_no_two_branches_meet() -> None:
    assert find_branch_terms(graph64(branches=1).graph) is None
    nameless = graph_of(branches(3))
    for node in nameless.graph:
        node.name = (node.name or "").replace("branches.", "blocks.")
    assert find_branch_terms(nameless.graph) is None
    assert find_branch_terms(graph_of(branches(2), "y = Mul (y_0, y_1)").graph) is None
