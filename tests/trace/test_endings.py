"""The bounds that the last operators of a traced model give its outputs, for many ways to write the end in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from paraexport.trace.endings import Ending, ending_of
from paraexport.trace.trace import quiet_exporter

FREE = (-math.inf, math.inf)
UNIT = (0.0, 1.0)


def exponents(logits: Tensor) -> Tensor:
    return torch.exp(logits - logits.amax(1, keepdim=True))


ENDS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[float, float], bool]] = {
    "logits": (lambda z: z, FREE, False),
    "softmax": (lambda z: z.softmax(1), UNIT, False),
    "softmax, then no change": (lambda z: z.double().softmax(-1).float().reshape(-1, 5), UNIT, False),
    "softmax, written out": (lambda z: exponents(z) / exponents(z).sum(1, keepdim=True), UNIT, False),
    "softmax with a temperature": (lambda z: (z / 3).softmax(1), UNIT, False),
    "the mean of two": (lambda z: (z.softmax(1) + (2 * z).softmax(1)) / 2, UNIT, False),
    "the sum of two": (lambda z: z.softmax(1) + (2 * z).softmax(1), (0.0, 2.0), False),
    "percent": (lambda z: 100 * z.softmax(1), (0.0, 100.0), False),
    "clamped": (lambda z: z.sigmoid().clamp(0.25, 0.75), (0.25, 0.75), False),
    "shares": (lambda z: functional.normalize(torch.relu(z), p=1.0, dim=1), UNIT, False),
    "shares of what may be negative": (lambda z: z / z.sum(1, keepdim=True), FREE, False),
    "sigmoid": (torch.sigmoid, UNIT, False),
    "sigmoid, written out": (lambda z: 1 / (1 + torch.exp(-z)), UNIT, False),
    "sigmoid by tanh": (lambda z: 0.5 * (1 + torch.tanh(z / 2)), UNIT, False),
    "both sides": (lambda z: torch.cat([1 - z[:, :1].sigmoid(), z[:, :1].sigmoid()], 1), UNIT, False),
    "log softmax": (lambda z: z.log_softmax(1), (-math.inf, 0.0), True),
    "log sigmoid": (functional.logsigmoid, (-math.inf, 0.0), True),
    "tanh": (torch.tanh, (-1.0, 1.0), False),
    "relu": (torch.relu, (0.0, math.inf), False),
    "silu": (functional.silu, FREE, False),
    "minus a distance": (lambda z: -(z[:, None] - torch.eye(5)).pow(2).sum(2), FREE, False),
}  # fmt: skip


class Many(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 5)

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(end(self.head(inputs)) for end, _, _ in ENDS.values())


@pytest.fixture(scope="module")
def endings() -> dict[str, Ending]:
    """The endings of all outputs, from one export."""
    batch = ({0: torch.export.Dim("batch")},)
    with quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(Many().eval(), (torch.zeros(2, 3),), dynamo=True, dynamic_shapes=batch)
    assert program is not None
    return dict(zip(ENDS, map(ending_of, program.model.graph.outputs), strict=True))


@pytest.mark.parametrize("name", ENDS)
def test_the_bounds_of_an_end(name: str, endings: dict[str, Ending]) -> None:
    end, bounds, logarithm = ENDS[name]
    assert (endings[name].low, endings[name].high) == pytest.approx(bounds, abs=1e-6)
    assert endings[name].logarithm is logarithm
    answers = end(torch.linspace(-50, 50, 500).reshape(100, 5))
    assert endings[name].low - 1e-6 <= float(answers.nan_to_num().min())
    assert endings[name].high + 1e-6 >= float(answers.nan_to_num().max())


def test_operators_of_other_domains_are_not_known_by_their_name() -> None:
    value = ir.Value(name="x")
    node = ir.node("Sigmoid", [value], domain="example.own")
    assert (ending_of(node.outputs[0]).low, ending_of(node.outputs[0]).high) == FREE


def test_an_output_that_is_an_input_or_a_constant() -> None:
    assert ending_of(ir.Value(name="x")) == Ending("", *FREE, logarithm=False)
