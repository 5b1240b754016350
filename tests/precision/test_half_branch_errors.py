"""The error of each branch in half precision, against PyTorch's own rounding of that branch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paraexport.precision.half.branch_errors import branch_errors
from paraexport.precision.half.formats import HalfType
from paraexport.trace.trace import trace
from tests.trace.test_trace import random_model, small_spec

TYPES: dict[HalfType, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_errors_are_about_those_of_pytorch_in_half(kind: HalfType, tmp_path: Path) -> None:
    """PyTorch rounds at other places, such as inside attention, so only the size of the errors can agree."""
    model = random_model(small_spec())
    graph = trace(model, model.spec, tmp_path / "model.onnx", apart=True)
    images = np.random.default_rng(0).standard_normal((64, 1, 8, 12)).astype(np.float32)
    parts, unexplained = branch_errors(graph.path, kind, lambda: [images[:32], images[32:]])
    assert [part.part for part in parts] == ["branches.0", "branches.1", "branches.2"]
    with torch.no_grad():
        tokens = model.embedding(torch.from_numpy(images))
        exact = [branch(tokens) for branch in model.branches]
        size = sum(exact[1:], exact[0]).double().norm()
        for part, branch, expected in zip(parts, model.branches, exact, strict=True):
            own = float((in_half(branch, tokens, TYPES[kind]).double() - expected.double()).norm() / size)
            assert own / 2.5 < part.error < own * 2.5
            assert not part.kept
    assert unexplained is not None
    assert unexplained < 0.7  # the rounding of the sum itself


def in_half(branch: nn.Module, tokens: Tensor, dtype: torch.dtype) -> Tensor:
    with torch.autocast("cpu", dtype):
        return branch(tokens)


def test_half_precision_has_eight_times_the_error_in_bfloat16(tmp_path: Path) -> None:
    """bfloat16 has three bits less than float16."""
    model = random_model(small_spec())
    graph = trace(model, model.spec, tmp_path / "model.onnx", apart=True)
    images = np.random.default_rng(0).standard_normal((32, 1, 8, 12)).astype(np.float32)
    fp16, bf16 = (branch_errors(graph.path, kind, lambda: [images])[0] for kind in TYPES)
    for small, large in zip(fp16, bf16, strict=True):
        assert 5 < large.error / small.error < 13


def test_a_model_of_one_branch_has_no_errors_by_branch(tmp_path: Path) -> None:
    model = random_model(small_spec(branches=1))
    graph = trace(model, model.spec, tmp_path / "model.onnx", apart=True)
    assert branch_errors(graph.path, "fp16", lambda: [np.zeros((1, 1, 8, 12), np.float32)]) == ((), None)
