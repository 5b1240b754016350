"""The first branches of a traced graph are the trace of a model with only these branches."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from paraexport.errors import TraceError
from paraexport.model.reference import ParaFormer
from paraexport.trace.cut import first_branches
from paraexport.trace.trace import trace
from tests.trace.test_trace import random_model, small_spec


@pytest.fixture(scope="module")
def model() -> ParaFormer:
    return random_model(dataclasses.replace(small_spec(), branches=4))


@pytest.fixture(scope="module")
def traced(model: ParaFormer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trace(model, model.spec, tmp_path_factory.mktemp("traced") / "model.onnx", apart=True).path


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_logits_are_those_of_the_first_branches(model: ParaFormer, traced: Path, count: int, tmp_path: Path) -> None:
    spec = model.spec
    images = torch.randn(3, spec.channels, *spec.image_size)
    with torch.no_grad():
        expected = model.prefix_logits(images)[count - 1].numpy()
    first_branches(traced, count, tmp_path / "cut.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "cut.onnx")
    (got,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()
    weights = sum(parameter.nbytes for name, parameter in model.named_parameters() if kept(name, count))
    assert weights <= (tmp_path / "cut.onnx.data").stat().st_size <= 1.5 * weights + 400_000


def test_one_of_two_branches_can_be_cut(tmp_path: Path) -> None:
    model = random_model(dataclasses.replace(small_spec(), branches=2))
    path = trace(model, model.spec, tmp_path / "model.onnx", apart=True).path
    test_logits_are_those_of_the_first_branches(model, path, 1, tmp_path)


def kept(name: str, count: int) -> bool:
    return not name.startswith("branches.") or int(name.split(".")[1]) < count


def test_more_branches_than_there_are_cannot_be_cut(traced: Path, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="at least 5 terms"):
        first_branches(traced, 5, tmp_path / "cut.onnx")


def test_a_graph_without_a_sum_cannot_be_cut(tmp_path: Path) -> None:
    model = random_model(dataclasses.replace(small_spec(), branches=1))
    path = trace(model, model.spec, tmp_path / "model.onnx", apart=True).path
    with pytest.raises(TraceError, match="no sum over these branches"):
        first_branches(path, 1, tmp_path / "cut.onnx")
