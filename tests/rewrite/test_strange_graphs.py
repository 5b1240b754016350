"""On drawn graphs like those of other exporters, every pass keeps the outputs or refuses, and none fails."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import HealthCheck, given, settings

from tests.rewrite.passes import Trial, on_runtime
from tests.rewrite.strange_graphs import feeds, graphs

CLOSE = 1e-6
"""The graphs are in float64, except a GRU, and the mean and deviation of a norm."""
FEW, MANY = (
    settings(max_examples=count, derandomize=True, deadline=None, suppress_health_check=[*HealthCheck])
    for count in (25, 1000)
)


def check(before: onnx.ModelProto) -> None:
    onnx.checker.check_model(before, full_check=True)
    trial = Trial(before, feeds(before), on_runtime, CLOSE)
    trial.check_layouts()
    trial.check_passes()


@FEW
@given(graphs())
def test_every_pass_works_or_refuses(before: onnx.ModelProto) -> None:
    check(before)


@pytest.mark.sweep
@MANY
@given(graphs())
def test_every_pass_works_or_refuses_at_length(before: onnx.ModelProto) -> None:
    check(before)
