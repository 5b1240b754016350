"""Files of torch's exporters: branches are found from names of nodes, names of modules in metadata, and readers."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from paraexport.graph import untrusted
from paraexport.graph.inspection import read
from paraexport.graph.naming import is_in
from paraexport.graph.scopes import SCOPES, name_by_scope


class Summed(nn.Module):
    """Branches that are `nn.Sequential`, so that their modules have numbers as names."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 8)
        self.branches = nn.ModuleList(nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(3))
        self.head = nn.Linear(8, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = self.stem(tokens)
        return self.head(sum(branch(tokens) for branch in self.branches).mean(1))


@pytest.fixture(scope="module", params=["dynamo", "torchscript"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / f"{request.param}.onnx"
    free: dict[str, Any] = {"dynamic_shapes": ({0: torch.export.Dim("batch")},), "verbose": False}
    if request.param == "torchscript":
        free = {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}
    with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(Summed(), (torch.zeros(2, 4, 8),), path, dynamo=request.param == "dynamo", **free)
    return path


def test_cost_of_each_branch(exported: Path) -> None:
    """Each branch has two products: 4 tokens · (8 · 16 + 16 · 8), with as many weights and 24 biases."""
    contents = read(exported)
    assert contents.summary.branches == 3
    parts = {part.name: part for part in contents.parts}
    for number in range(3):
        assert parts[f"branch {number}"].multiply_adds == 4 * 2 * 8 * 16
        assert parts[f"branch {number}"].parameters == 2 * 8 * 16 + 16 + 8
    total = sum(part.parameters for part in contents.parts)
    assert total == sum(parameter.numel() for parameter in Summed().parameters())


def test_numbered_modules_belong_to_their_branch() -> None:
    assert is_in("branches.0.1/MatMul", "branches.0")
    assert is_in("/model/branches.3/branches.3.2/Add", "branches.3")
    assert not is_in("branches.10/MatMul", "branches.1")


@pytest.mark.parametrize(
    "text",
    ["", "[", "3", "[]", "['a']", "[1, 2]", "__import__('os')", "['branches.0', ''", "[" * 5000, "{}", "'" * 11_000],
)
def test_damaged_metadata_change_nothing(text: str) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="mine")
    node.metadata_props.add(key=SCOPES, value=text)
    model = helper.make_model(helper.make_graph([node], "g", [], []))
    name_by_scope(model)
    assert model.graph.node[0].name == "mine"


def test_names_stay_unique() -> None:
    nodes = [helper.make_node("Relu", ["x"], [f"y{number}"], name=f"node_{number}") for number in range(3)]
    nodes.append(helper.make_node("Relu", ["x"], ["z"], name="branches.0/Relu"))
    for node in nodes[:3]:
        node.metadata_props.add(key=SCOPES, value="['', 'branches.0', 'relu']")
    model = helper.make_model(helper.make_graph(nodes, "g", [], []))
    name_by_scope(model)
    names = [node.name for node in model.graph.node]
    assert len({*names}) == 4
    assert all(name.startswith("branches.0/Relu") for name in names)


def test_the_file_keeps_its_answers(exported: Path) -> None:
    model = untrusted.read(exported)
    original = onnx.load(exported)
    assert [list(node.output) for node in model.graph.node] == [list(node.output) for node in original.graph.node]
