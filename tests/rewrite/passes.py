"""Checks every pass on one graph, alone and in the layouts: valid graphs, the same outputs, no faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from paraexport.graph.cost import branch_costs
from paraexport.graph.refusal import Refused
from paraexport.rewrite import LAYOUTS, foreign_steps
from paraexport.rewrite.atomic import FAULT, on_graph
from paraexport.rewrite.canonical import attention, gemm, packed, prepare, shapes, totals
from paraexport.rewrite.passes import equalise, lower

Feeds = Mapping[str, Any]
Run = Callable[[onnx.ModelProto, Feeds], Sequence[Any]]
MODEL_PASSES: tuple[Callable[[ir.Model], object], ...] = (prepare.apply, shapes.apply, lower.apply)
GRAPH_PASSES: tuple[Callable[[ir.Graph], Any], ...] = (
    gemm.apply, totals.apply, packed.apply, attention.apply, *dict.fromkeys([*LAYOUTS["folded"], *LAYOUTS["stacked"]]),
    equalise.apply, branch_costs,
)  # fmt: skip


def on_runtime(model: onnx.ModelProto, feeds: Feeds) -> Sequence[Any]:
    """The outputs of ONNX Runtime without optimisations. It rejects nodes with equal names, which ONNX allows."""
    named = onnx.ModelProto()
    named.CopyFrom(model)
    for index, node in enumerate(named.graph.node):
        node.name = f"node{index}"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(named.SerializeToString(), options, providers=["CPUExecutionProvider"])
    answers: Sequence[Any] = session.run(None, {one.name: feeds[one.name] for one in session.get_inputs()})
    return answers


class Trial:
    """A graph, its outputs, and what a rewrite must not change."""

    def __init__(self, before: onnx.ModelProto, feeds: Feeds, run: Run, close: float) -> None:
        self.before, self.feeds, self.run, self.close = before, feeds, run, close
        self.shaped = onnx.shape_inference.infer_shapes(before, data_prop=True)
        self.untouched = written(ir.to_proto(ir.from_proto(self.shaped)))
        self.answers = run(before, feeds)

    def check_layouts(self) -> None:
        """Check that no step of a layout fails with a fault, and that each layout keeps the outputs."""
        for layout in LAYOUTS:
            model = ir.from_proto(self.before)
            for step in foreign_steps(model, layout):
                assert not [reason for reason in step(model).refusals if FAULT in reason]
            self.check_same(model)

    def check_passes(self) -> None:
        """Check that each pass alone, without its atomic step, raises nothing but `Refused`."""
        for apply in (*MODEL_PASSES, *map(on_graph, GRAPH_PASSES)):
            model = ir.from_proto(self.shaped)
            try:
                apply(model)
            except Refused:
                continue
            self.check_same(model)

    def check_same(self, after: ir.Model) -> None:
        """Check that the graph is valid, and that its inputs, outputs and numbers are unchanged."""
        proto = ir.to_proto(after)
        if written(proto) == self.untouched:
            return
        onnx.checker.check_model(proto, full_check=True)
        for side in ("input", "output"):
            names, kept = ([value.name for value in getattr(one.graph, side)] for one in (self.before, proto))
            assert names == kept
        for expected, got in zip(self.answers, self.run(proto, self.feeds), strict=True):
            assert is_close(expected, got, self.close)


def written(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


def is_close(expected: Any, got: Any, close: float) -> bool:
    """Whether two outputs, tensors or lists of tensors, differ by at most `close` (1 + max |value|)."""
    if isinstance(expected, list):
        pairs = zip(expected, got, strict=True)
        return len(expected) == len(got) and all(is_close(one, other, close) for one, other in pairs)
    if expected is None or got is None:
        return expected is got
    one, other = np.asarray(expected), np.asarray(got)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind not in "fV":
        return bool((one == other).all())
    return near(one.astype(np.float64), other.astype(np.float64), close)


def near(one: NDArray[np.float64], other: NDArray[np.float64], close: float) -> bool:
    finite = np.isfinite(one)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
        return False
    largest = np.abs(one[finite]).max(initial=0)
    return bool((np.abs(one[finite] - other[finite]) <= close * (1 + largest)).all())
