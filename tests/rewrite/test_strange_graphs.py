"""No pass stumbles over a graph from elsewhere: it works, or refuses, and the answers stay the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray

from paraexport.rewrite import LAYOUTS, equalise, foreign_steps, lower, query_scale, wide
from paraexport.rewrite.canonical import attention, gemm, packed, prepare, shapes, totals
from paraexport.rewrite.cost import parts
from paraexport.rewrite.edit import Refused
from paraexport.rewrite.whole import FAULT
from tests.rewrite.strange_graphs import feeds, graphs

Answers = Sequence[NDArray[Any]]
CLOSE = 1e-6
"""max |Δ| / (1 + max |value|): the graphs are in float64, but for a GRU and the mean and deviation of a norm."""
MODEL_PASSES: tuple[Callable[[ir.Model], object], ...] = (prepare.apply, shapes.apply, lower.apply)
GRAPH_PASSES: tuple[Callable[[ir.Graph], object], ...] = (
    gemm.apply, totals.apply, packed.apply, attention.apply, *LAYOUTS["folded"], *LAYOUTS["stacked"], wide.apply,
    query_scale.apply, equalise.apply, parts,
)  # fmt: skip


def run(model: onnx.ModelProto, inputs: Mapping[str, NDArray[Any]]) -> Answers:
    """The answers of ONNX Runtime in float64, nothing optimised; it refuses nodes of one name, which ONNX allows."""
    named = onnx.ModelProto()
    named.CopyFrom(model)
    for index, node in enumerate(named.graph.node):
        node.name = f"node{index}"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(named.SerializeToString(), options, providers=["CPUExecutionProvider"])
    answers: Answers = session.run(None, dict(inputs))
    return answers


def check_same(before: onnx.ModelProto, after: ir.Model, expected: Answers) -> None:
    """The graph is valid, has the inputs and outputs that it had, and gives the same answers."""
    proto = ir.to_proto(after)
    onnx.checker.check_model(proto, full_check=True)
    for side in ("input", "output"):
        names = [[value.name for value in getattr(one.graph, side)] for one in (before, proto)]
        assert names[0] == names[1]
    for one, other in zip(expected, run(proto, feeds(before)), strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        wanted, got = one.astype(np.float64), other.astype(np.float64)
        assert np.abs(got - wanted).max(initial=0) <= CLOSE * (1 + np.abs(wanted).max(initial=0))


def passes() -> Iterator[Callable[[ir.Model], object]]:
    """Every pass by itself, not as the careful step that it is in a layout."""
    yield from MODEL_PASSES
    for apply in GRAPH_PASSES:
        yield lambda model, apply=apply: apply(model.graph)  # type: ignore[misc]


@settings(max_examples=20, derandomize=True, deadline=None, suppress_health_check=[*HealthCheck])
@given(graphs())
def test_every_layout_works_or_refuses(before: onnx.ModelProto) -> None:
    onnx.checker.check_model(before, full_check=True)
    expected = run(before, feeds(before))
    for layout in LAYOUTS:
        model = ir.from_proto(before)
        for step in foreign_steps(model, layout):
            assert not [reason for reason in step(model).refusals if FAULT in reason]
        check_same(before, model, expected)


@settings(max_examples=20, derandomize=True, deadline=None, suppress_health_check=[*HealthCheck])
@given(graphs())
def test_every_pass_by_itself_works_or_refuses(before: onnx.ModelProto) -> None:
    shaped = onnx.shape_inference.infer_shapes(before, data_prop=True)
    expected = run(before, feeds(before))
    for apply in passes():
        model = ir.from_proto(shaped)
        try:
            apply(model)
        except Refused:
            continue
        check_same(before, model, expected)
