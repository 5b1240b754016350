"""Draws graphs like those of other exporters: several outputs, missing inputs, repeated or empty names.

A value is float64 [b, 4, 6]. Each piece computes a new value from existing ones. The numbers are small, so that graphs
of many pieces stay precise in float64.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

N, D, HEADS = 4, 6, 2
SHAPE = ("b", N, D)
Draw = Callable[[st.SearchStrategy[Any]], Any]


class Graph:
    """A graph that grows piece by piece."""

    def __init__(self, draw: Draw, opset: int) -> None:
        self.draw, self.opset = draw, opset
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.values = ["x"]
        self.count = itertools.count()
        self.numbers = np.random.default_rng(draw(st.integers(0, 9)))
        self.made: list[Any] = []
        """What was chosen since the last branch began."""
        self.again: list[Any] = []
        """What is to be chosen once more, first to last."""
        self.node_names = draw(st.sampled_from(["empty", "same", "branches"]))

    def pick(self) -> str:
        """An existing value; late ones are more likely."""
        return str(self.draw(st.sampled_from(self.values[-3:])))

    def flip(self) -> bool:
        return bool(self.choose(False, True))

    def choose(self, *options: Any) -> Any:
        number = self.again.pop(0) if self.again else self.draw(st.integers(0, len(options) - 1))
        self.made.append(number)
        return options[number % len(options)]

    def node(self, op_type: str, inputs: Sequence[str], outputs: int | Sequence[bool] = 1, **attributes: Any) -> Any:
        """Add a node and return its outputs. An output that is False gets an empty name."""
        wanted = [True] * outputs if isinstance(outputs, int) else outputs
        made = [f"v{next(self.count)}" if given else "" for given in wanted]
        name = {"empty": "", "same": "node", "branches": f"branches.{len(self.nodes) % 2}/n"}[self.node_names]
        self.nodes.append(helper.make_node(op_type, inputs, made, name=name, **attributes))
        return made[0] if len(made) == 1 else made

    def weight(self, *shape: int) -> str:
        return self.constant(self.numbers.standard_normal(shape) / 2)

    def constant(self, array: Any, dtype: Any = None) -> str:
        """An initializer, or a Constant node."""
        array, name = np.asarray(array, dtype), f"w{next(self.count)}"
        tensor = numpy_helper.from_array(array, name)
        if self.flip():
            self.weights.append(tensor)
        else:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def ints(self, *numbers: int) -> str:
        return self.constant(numbers, np.int64)

    def read(self, value: str) -> None:
        """Make the last value depend on a value of another shape or type."""
        cast = self.node("Cast", [value], to=TensorProto.DOUBLE)
        total = self.node("ReduceSum", [cast], keepdims=0)
        self.values.append(self.node("Add", [self.values[-1], self.node("Tanh", [total])]))


def linear(graph: Graph, value: str) -> str:
    product: str = graph.node("MatMul", [value, graph.weight(D, D)])
    if graph.flip():
        bias = graph.weight(*graph.choose((D,), (1,), (), (N, D), (1, 1, D)))
        product = graph.node("Add", graph.choose([product, bias], [bias, product]))
    return product


def affine(graph: Graph, value: str) -> str:
    constant = graph.weight(*graph.choose((D,), (), (1,), (N, 1), (1, N, D)))
    made: str = graph.node(graph.choose("Add", "Mul", "Sub", "Div"), [value, constant])
    return made


def activation(graph: Graph, value: str) -> str:
    op_type = graph.choose("Relu", "Tanh", "Sigmoid", "Softmax", "Identity", "Neg", "Clip")
    if op_type != "Clip":
        made: str = graph.node(op_type, [value])
        return made
    low, high = graph.constant(np.float64(-0.5)), graph.constant(np.float64(0.5))
    clipped: str = graph.node("Clip", graph.choose([value, low], [value, "", high], [value, "", ""], [value, low, ""]))
    return clipped


def norm(graph: Graph, value: str) -> str:
    """LayerNormalization with the outputs mean and deviation."""
    inputs = [value, graph.weight(D), *([graph.weight(D)] if graph.flip() else [""] if graph.flip() else [])]
    outputs = graph.node("LayerNormalization", inputs, [True, *graph.choose([], [False, True], [True, False])])
    if isinstance(outputs, str):
        return outputs
    graph.values.append(outputs[0])
    graph.read(next(name for name in outputs[1:] if name))
    return graph.values.pop()


def halves(graph: Graph, value: str) -> str:
    """Split into two parts and join them again; one part may be unread."""
    one, other = split(graph, value, 2)
    joined: str = graph.node("Concat", graph.choose([one, other], [other, one], [one, one]), axis=graph.choose(-1, 2))
    return joined


def split(graph: Graph, value: str, count: int, axis: int = -1) -> Any:
    if graph.flip() and graph.opset >= 18:
        return graph.node("Split", [value], count, axis=axis, num_outputs=count)
    return graph.node("Split", [value, graph.ints(*[D // count] * count)], count, axis=axis)


def gated(graph: Graph, value: str) -> str:
    """A gated unit: Transpose, Split, Mul. It was the smallest graph that crashed a pass."""
    order = graph.choose((0, 2, 1), (0, 1, 2))
    turned = graph.node("Transpose", [value], perm=order)
    one, other = split(graph, turned, 2, order.index(2))
    product = graph.node("Mul", [one, graph.node("Sigmoid", [other])])
    whole = graph.node("Concat", [product, one], axis=order.index(2))
    made: str = graph.node("Transpose", [whole], perm=order)
    return made


def whole_split(graph: Graph, value: str) -> str:
    """Split into one part."""
    made: str = graph.node("Split", [value, graph.ints(D)], 1, axis=2)
    return made


def rotary(graph: Graph, value: str) -> str:
    """x cos + rotated(x) sin, as exporters write rotary embeddings."""
    one, other = split(graph, value, 2)
    rotated = graph.node("Concat", [graph.node("Neg", [other]), one], axis=-1)
    products = [graph.node("Mul", [part, graph.weight(N, D)]) for part in (value, rotated)]
    made: str = graph.node("Add", products)
    return made


def top(graph: Graph, value: str) -> str:
    values, indices = graph.node("TopK", [value, graph.ints(D)], 2, axis=-1)
    graph.values.append(values)
    if graph.flip():
        graph.read(indices)
    return graph.values.pop()


def pooled(graph: Graph, value: str) -> str:
    """MaxPool over windows of one entry, with or without its indices."""
    made = graph.node("MaxPool", [value], [True, *graph.choose([], [True])], kernel_shape=[1])
    return made if isinstance(made, str) else str(made[0])


def dropped(graph: Graph, value: str) -> str:
    """Dropout outside of training. Its mask may be read, and its ratio may be missing."""
    training = graph.constant(np.False_)
    ratio = graph.constant(np.float64(0.3))
    inputs = graph.choose([value], [value, ratio], [value, "", training], [value, ratio, training])
    made = graph.node("Dropout", inputs, [True, *graph.choose([], [True], [False])])
    if isinstance(made, str) or not made[1]:
        return made if isinstance(made, str) else str(made[0])
    graph.values.append(made[0])
    graph.read(made[1])
    return graph.values.pop()


def batch_norm(graph: Graph, value: str) -> str:
    numbers = [graph.weight(N) for _ in range(3)]
    made: str = graph.node("BatchNormalization", [value, *numbers, graph.constant(np.full(N, 0.7))])
    return made


def recurrent(graph: Graph, value: str) -> str:
    """A GRU over the tokens, without the input of lengths. One of its two results is read."""
    # ONNX Runtime has no float64 kernel for it.
    steps = graph.node("Transpose", [graph.node("Cast", [value], to=TensorProto.FLOAT)], perm=[1, 0, 2])
    weights = [graph.constant(graph.numbers.standard_normal((1, 3 * D, D)), np.float32) for _ in range(2)]
    made = graph.node("GRU", [steps, *weights, "", ""], graph.choose([True, False], [True, True]), hidden_size=D)
    squeezed = graph.node("Cast", [graph.node("Squeeze", [made[0], graph.ints(1)])], to=TensorProto.DOUBLE)
    back: str = graph.node("Transpose", [squeezed], perm=[1, 0, 2])
    return back


def attention(graph: Graph, value: str) -> str:
    """Written-out attention: one product for queries, keys and values, and a Split."""
    packed = graph.node("MatMul", [value, graph.weight(D, 3 * D)])
    parts = graph.node("Split", [packed, graph.ints(D, D, D)], 3, axis=-1)
    heads = [graph.node("Reshape", [part, graph.ints(0, N, HEADS, D // HEADS)]) for part in parts]
    query, value_ = (graph.node("Transpose", [heads[index]], perm=[0, 2, 1, 3]) for index in (0, 2))
    key = graph.node("Transpose", [heads[1]], perm=[0, 2, 3, 1])
    scores = graph.node("MatMul", [query, key])
    if graph.flip():
        scores = graph.node(graph.choose("Mul", "Div"), [scores, graph.constant(np.float64(graph.choose(0.5, 2.0)))])
    mixed = graph.node("MatMul", [graph.node("Softmax", [scores], axis=-1), value_])
    back = graph.node("Transpose", [mixed], perm=[0, 2, 1, 3])
    joined: str = graph.node("Reshape", [back, graph.ints(-1, N, D)])
    return linear(graph, joined)


def token(graph: Graph, value: str) -> str:
    """One token, or a range of tokens, added to all tokens."""
    kind = graph.choose("Gather", "Slice", "ReduceMean")
    if kind == "Gather":
        one = graph.node("Gather", [value, graph.constant(np.asarray(graph.choose(0, -1)), np.int64)], axis=1)
        one = graph.node("Unsqueeze", [one, graph.ints(1)])
    elif kind == "Slice":
        # Without axes, it cuts the first axes.
        bounds = graph.choose(
            [graph.ints(0, 1), graph.ints(2**40, 2)], [graph.ints(-1), graph.ints(2**40), graph.ints(-2)]
        )
        one = graph.node("Slice", [value, *bounds, *([""] if len(bounds) == 3 and graph.flip() else [])])
    elif graph.opset >= 18:
        one = graph.node("ReduceMean", [value, graph.ints(-2)], keepdims=1)
    else:
        one = graph.node("ReduceMean", [value], axes=[1], keepdims=1)
    whole: str = graph.node("Add", [linear(graph, one), graph.pick()])
    return whole


def branches(graph: Graph, value: str) -> str:
    """A sum of two or three branches of the same pieces. The last one may differ in a detail."""
    pieces = [graph.draw(st.sampled_from(INNER)) for _ in range(graph.choose(1, 2))]
    count, odd = graph.choose(2, 3), graph.choose(False, False, True)
    ends: list[str] = []
    for number in range(count):
        graph.again = [] if number == 0 or (odd and number == count - 1) else graph.made
        graph.made, end = [], value
        for piece in pieces:
            end = piece(graph, end)
        ends.append(end)
    graph.again = []
    made: str = graph.node("Sum", [*ends, *([value] if graph.flip() else [])])
    return made


def block(graph: Graph, value: str) -> str:
    """Something for every pass: a norm, a scale, products with biases, attention over one token or all, a skip."""
    if graph.flip():
        inner = attention(graph, affine(graph, norm(graph, value)))
    else:
        inner = linear(graph, activation(graph, linear(graph, affine(graph, norm(graph, value)))))
    made: str = graph.node("Add", [value, graph.node("Mul", [inner, graph.weight(D)])])
    return made


def first_token(graph: Graph, value: str) -> str:
    """Only one token of a block."""
    one = graph.node("Gather", [block(graph, value), graph.constant(np.asarray(1), np.int64)], axis=1)
    product = graph.node("MatMul", [one, graph.weight(D, N * D)])
    made: str = graph.node("Reshape", [product, graph.ints(-1, N, D)])
    return made


def conditional(graph: Graph, value: str) -> str:
    """An If whose two branches read a value of the outer graph."""
    other = graph.pick()
    inner = [
        helper.make_graph([helper.make_node(op_type, [value, other], [f"s{next(graph.count)}"])], "inner", [], [])
        for op_type in ("Add", "Mul")
    ]
    for each in inner:
        shape = helper.make_tensor_value_info(each.node[0].output[0], TensorProto.DOUBLE, SHAPE)
        each.output.append(shape)
    least = graph.node("ReduceMin", [value], keepdims=0)
    condition = graph.node("Less", [least, graph.constant(np.float64(0))])
    made: str = graph.node("If", [condition], then_branch=inner[0], else_branch=inner[1])
    return made


def sized(graph: Graph, value: str) -> str:
    """A Reshape whose target is computed from the shape, partly in int32."""
    shape = graph.node("Cast", [graph.node("Shape", [value])], to=TensorProto.INT32)
    first = graph.node("Gather", [shape, graph.constant([0], np.int32)])
    target = graph.node("Concat", [first, graph.constant([N * D], np.int32)], axis=0)
    flat = graph.node("Reshape", [value, graph.node("Cast", [target], to=TensorProto.INT64)])
    made: str = graph.node("Reshape", [flat, graph.ints(-1, N, D)])
    return made


def chosen(graph: Graph, value: str) -> str:
    """A Where with computed booleans."""
    condition = graph.node("Greater", [value, graph.constant(np.float64(0))])
    made: str = graph.node("Where", [condition, value, graph.pick()])
    return made


def as_sequence(graph: Graph, value: str) -> str:
    """Through a sequence of tensors."""
    sequence = graph.node("SequenceConstruct", [value, graph.pick()])
    made: str = graph.node("SequenceAt", [sequence, graph.constant(np.asarray(0), np.int64)])
    return made


INNER = (linear, affine, activation, norm, halves, gated, rotary, block)
PIECES = (
    *INNER, whole_split, top, pooled, dropped, batch_norm, recurrent, attention, token, branches, first_token,
    conditional, sized, chosen, as_sequence,
)  # fmt: skip


@st.composite
def graphs(draw: Draw) -> onnx.ModelProto:
    """A model whose first input is x: float64 [b, 4, 6]."""
    opset = draw(st.sampled_from([17, 18, 20, 23]))
    graph = Graph(draw, opset)
    inputs = [helper.make_tensor_value_info("x", TensorProto.DOUBLE, SHAPE)]
    if graph.flip():
        # An initializer that is also an input is a default.
        graph.weights.append(numpy_helper.from_array(graph.numbers.standard_normal((D, D)), "default"))
        inputs.append(helper.make_tensor_value_info("default", TensorProto.DOUBLE, (D, D)))
        graph.values.append(graph.node("MatMul", ["x", "default"]))
    pieces = draw(st.lists(st.sampled_from(PIECES), max_size=4))
    for piece in [*pieces, *([branches] if graph.flip() else [])] or [gated]:
        graph.values.append(piece(graph, graph.pick()))
    outputs = {graph.values[-1], *draw(st.lists(st.sampled_from(graph.values[1:] or ["x"]), max_size=2))} - {"x"}
    returned = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, SHAPE) for name in sorted(outputs)]
    if graph.weights and graph.flip():
        weight = graph.weights[0]
        returned.append(helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    made = helper.make_graph(graph.nodes, "strange", inputs, returned, graph.weights)
    model = helper.make_model(made, ir_version=10, opset_imports=[helper.make_opsetid("", opset)])
    return onnx.shape_inference.infer_shapes(model, data_prop=True) if graph.flip() else model


def feeds(model: onnx.ModelProto, batch: int = 3) -> Mapping[str, NDArray[np.float64]]:
    """Numbers for the inputs of a model. An input with a default gets another value."""
    random = np.random.default_rng(5)
    sizes = {"x": (batch, N, D), "default": (D, D)}
    return {value.name: random.standard_normal(sizes[value.name]) for value in model.graph.input}
