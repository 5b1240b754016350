"""Builds little graphs in float64, by hand or drawn at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from paraexport.graph.edit import clean
from tests.rewrite.exact import LayerNormalization

OPSET = 23
Shape = tuple[int | str, ...]


class Little:
    """A graph with one input, built node by node. Every method returns the name of a value."""

    def __init__(self, *shape: int | str, opset: int = OPSET) -> None:
        self.shape, self.opset = shape, opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)
        self.input = "x"

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op_type}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        return name

    def integers(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def index(self, number: int) -> str:
        return self.constant(np.array(number, np.int64))

    def weight(self, *shape: int) -> str:
        return self.constant(self.random.standard_normal(shape))

    def constant(self, array: NDArray[Any]) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def token(self, value: str, number: int = 0, axis: int = 1) -> str:
        return self.node("Gather", value, self.index(number), axis=axis)

    def dense(self, value: str, inner: int, outer: int) -> str:
        return self.node("Add", self.node("MatMul", value, self.weight(inner, outer)), self.weight(outer))

    def model(self, *outputs: str) -> ir.Model:
        graph = helper.make_graph(
            self.nodes,
            "little",
            [helper.make_tensor_value_info(self.input, TensorProto.DOUBLE, self.shape)],
            [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in outputs],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        onnx.checker.check_model(inferred, full_check=True)
        made = ir.from_proto(inferred)
        clean(made.graph)
        return made


def outputs_of(model: ir.Model, array: NDArray[Any]) -> list[NDArray[Any]]:
    evaluator = ReferenceEvaluator(ir.to_proto(model), new_ops=[LayerNormalization])
    results: Any = evaluator.run(None, {evaluator.input_names[0]: array})
    return list(results)


def error(before: ir.Model, after: ir.Model, batch: int = 3) -> float:
    """max |Δ| over all outputs, relative to the largest number in any value of `before`."""
    shape = [size if isinstance(size, int) else batch for size in before.graph.inputs[0].shape or ()]
    array = np.random.default_rng(1).standard_normal(shape)
    expected, got = outputs_of(before, array), outputs_of(after, array)
    assert [value.name for value in before.graph.outputs] == [value.name for value in after.graph.outputs]
    assert [one.shape for one in expected] == [other.shape for other in got]
    inside = before.clone()
    inside.graph.outputs.extend(value for node in inside.graph for value in node.outputs if not value.is_graph_output())
    largest = max(float(np.abs(value).max()) for value in outputs_of(inside, array))
    return max(float(np.abs(one - other).max()) for one, other in zip(expected, got, strict=True)) / max(largest, 1.0)


@st.composite
def drawn(draw: st.DrawFn) -> ir.Model:
    """A random graph whose outputs are parts of some values: one entry of an axis, a range, or the mean."""
    tokens, dim = draw(st.integers(2, 4)), draw(st.sampled_from([2, 4]))
    graph = Little("batch", tokens, dim)
    values: list[tuple[str, Shape]] = [(graph.input, graph.shape)]
    for _ in range(draw(st.integers(1, 9))):
        source = values[-1] if draw(st.integers(0, 3)) else draw(st.sampled_from(values))
        step = draw(
            st.sampled_from([unary, shifted, scaled, dense, normalized, softmax, turned, reshaped, joined, mixed])
        )
        values.append(step(draw, graph, source, values))
    ends = [ended(draw, graph, values[-1])]
    if draw(st.integers(0, 3)) == 0:
        ends.append(ended(draw, graph, draw(st.sampled_from(values))))
    return graph.model(*ends)


Value = tuple[str, Shape]


def unary(draw: st.DrawFn, graph: Little, source: Value, values: Sequence[Value]) -> Value:
    return graph.node(draw(st.sampled_from(["Relu", "Gelu", "Tanh", "Neg", "Identity"])), source[0]), source[1]


def broadcastable(draw: st.DrawFn, shape: Shape) -> list[int]:
    """The shape of a constant that broadcasts to a value of `shape`."""
    kept = [size if isinstance(size, int) and draw(st.booleans()) else 1 for size in shape]
    return kept[draw(st.integers(0, len(kept))) :]


def shifted(draw: st.DrawFn, graph: Little, source: Value, values: Sequence[Value]) -> Value:
    """Add or subtract a constant or an earlier value."""
    alike = [name for name, shape in values if shape == source[1]]
    other = draw(st.sampled_from([*alike, ""])) or graph.weight(*broadcastable(draw, source[1]))
    operands = draw(st.permutations([source[0], other]))
    return graph.node(draw(st.sampled_from(["Add", "Sub", "Sum"])), *operands), source[1]


def scaled(draw: st.DrawFn, graph: Little, source: Value, values: Sequence[Value]) -> Value:
    if draw(st.booleans()):
        divisor = np.abs(graph.random.standard_normal(broadcastable(draw, source[1]))) + 1
        return graph.node("Div", source[0], graph.constant(divisor)), source[1]
    other = draw(st.sampled_from([source[0], ""])) or graph.weight(*broadcastable(draw, source[1]))
    return graph.node("Mul", source[0], other), source[1]


def dense(draw: st.DrawFn, graph: Little, source: Value, values: Sequence[Value]) -> Value:
    name, shape = source
    if not isinstance(shape[-1], int):
        return source
    width = draw(st.sampled_from([2, 4]))
    return graph.node("MatMul", name, graph.weight(shape[-1], width)), (*shape[:-1], width)


def normalized(draw: st.DrawFn, graph: Little, source: Value, values: Sequence[Value]) -> Value:
    name, shape = source
    if not isinstance(shape[-1], int):
        return source
    weights = graph.weight(shape[-1]), graph.weight(shape[-1])
    return graph.node("LayerNormalization", name, *weights, axis=-1, epsilon=0.01), shape


def softmax(draw: st.DrawFn, graph: Little, source: Value, values: Sequence[Value]) -> Value:
    return graph.node("Softmax", source[0], axis=draw(st.sampled_from([-1, -2]))), source[1]


def turned(draw: st.DrawFn, graph: Little, source: Value, values: Sequence[Value]) -> Value:
    name, shape = source
    order = draw(st.permutations(range(len(shape))))
    return graph.node("Transpose", name, perm=order), tuple(shape[axis] for axis in order)


def reshaped(draw: st.DrawFn, graph: Little, source: Value, values: Sequence[Value]) -> Value:
    """Merge two neighbouring axes, or split one."""
    name, shape = source
    if len(shape) == 4:
        places = [a for a in range(3) if isinstance(shape[a], int) and isinstance(shape[a + 1], int)]
        if not places:
            return source
        axis = draw(st.sampled_from(places))
        pair = [size for size in shape[axis : axis + 2] if isinstance(size, int)]
        new: Shape = (*shape[:axis], math.prod(pair), *shape[axis + 2 :])
    else:
        axis = draw(st.sampled_from([axis for axis, size in enumerate(shape) if isinstance(size, int)]))
        size = shape[axis]
        assert isinstance(size, int)
        factor = 2 if size % 2 == 0 else 1
        new = (*shape[:axis], factor, size // factor, *shape[axis + 1 :])
    target = [size if isinstance(size, int) else -1 for size in new]
    return graph.node("Reshape", name, graph.integers(*target)), new


def joined(draw: st.DrawFn, graph: Little, source: Value, values: Sequence[Value]) -> Value:
    """[x; y] along an axis, for a value y of the shape of x."""
    name, shape = source
    axis = draw(st.sampled_from([axis for axis, size in enumerate(shape) if isinstance(size, int)]))
    size = shape[axis]
    assert isinstance(size, int)
    if size > 8:
        return source
    other = draw(st.sampled_from([name for name, other in values if other == shape]))
    return graph.node("Concat", name, other, axis=axis), (*shape[:axis], 2 * size, *shape[axis + 1 :])


def mixed(draw: st.DrawFn, graph: Little, source: Value, values: Sequence[Value]) -> Value:
    """Attention of a value to itself, as one node or written out."""
    name, shape = source
    if len(shape) == 4 and draw(st.booleans()):
        return graph.node("Attention", name, name, name), shape
    order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    scores = graph.node("MatMul", name, graph.node("Transpose", name, perm=order))
    return graph.node("MatMul", graph.node("Softmax", scores, axis=-1), name), shape


def ended(draw: st.DrawFn, graph: Little, source: Value) -> str:
    name, shape = source
    axis = draw(st.sampled_from([axis for axis, size in enumerate(shape) if isinstance(size, int)]))
    size = shape[axis]
    assert isinstance(size, int)
    first = draw(st.integers(0, size - 1))
    last = draw(st.integers(first, size - 1))
    kind = draw(st.sampled_from(["token", "tokens", "slice", "mean"]))
    if kind == "token":
        return graph.token(name, draw(st.sampled_from([first, first - size])), axis)
    if kind == "tokens":
        return graph.node("Gather", name, graph.integers(*range(first, last + 1)), axis=axis)
    if kind == "slice":
        bounds = [graph.integers(number) for number in (first, last + 1, axis)]
        return graph.node("Slice", name, *bounds)
    return graph.node("ReduceMean", name, graph.integers(axis), keepdims=draw(st.integers(0, 1)))
