"""Valid but unusual graphs, each with the expected result of a pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper, parser, shape_inference

from paraexport.graph.cost import branch_costs
from paraexport.graph.edit import add_constant, add_node, substitute
from paraexport.graph.query import const, readers, result
from paraexport.graph.refusal import Refused
from paraexport.rewrite import LAYOUTS, applied, foreign_steps
from paraexport.rewrite.atomic import FAULT
from paraexport.rewrite.canonical import attention, packed, prepare, shapes
from paraexport.rewrite.passes import biases, lower, offsets, select, tidy
from tests.rewrite.passes import Trial, on_runtime

CLOSE = 1e-6


def parsed(text: str, **constants: NDArray[Any]) -> onnx.ModelProto:
    """The model of a text in onnx's form, with these initializers and inferred shapes."""
    proto = parser.parse_model(text)
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return shape_inference.infer_shapes(proto, data_prop=True)


def graph(
    body: str, *, inputs: str = "float[b,4,6] x", outputs: str = "float[b,4,6] y", opset: int = 23, **constants: Any
) -> onnx.ModelProto:
    arrays = {name: np.asarray(array) for name, array in constants.items()}
    header = f'<ir_version: 10, opset_import: ["" : {opset}]> g ({inputs}) => ({outputs})'
    return parsed(f"{header} {{ {body} }}", **arrays)


def weights(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def images(**shapes: tuple[int, ...]) -> Mapping[str, NDArray[np.float32]]:
    numbers = np.random.default_rng(7)
    return {name: numbers.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


X = images(x=(2, 4, 6))


def check(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]] = X) -> None:
    trial = Trial(model, feeds, on_runtime, CLOSE)
    trial.check_layouts()
    trial.check_passes()


def refusals(apply: Callable[[ir.Graph], Any], model: onnx.ModelProto) -> str:
    done = apply(ir.from_proto(model).graph)
    assert done.times == 0
    return "; ".join(done.refusals)


ODD: Mapping[str, tuple[onnx.ModelProto, Mapping[str, NDArray[Any]]]] = {
    "a Split of two behind a Transpose": (
        graph(
            """t = Transpose <perm = [0, 2, 3, 1]> (images)
            a, c = Split <axis = -1, num_outputs = 2> (t)
            y = Mul (a, c)""",
            inputs="float[b,4,6,6] images", outputs="float[b,6,6,2] y",
        ),
        images(images=(2, 4, 6, 6)),
    ),
    "a Dropout from input to output": (graph("y, m = Dropout (x)"), X),
    "an Identity of a constant": (
        graph("y = Identity (w) z = Add (x, w)", outputs="float[4,6] y, float[b,4,6] z", w=weights(4, 6)), X,
    ),
    "equal nodes, all returned": (
        graph("y = Relu (x) z = Relu (x) a = Identity (z)", outputs="float[b,4,6] y, float[b,4,6] z, float[b,4,6] a"),
        X,
    ),
    "two norms of one value, both returned": (
        graph(
            "y = LayerNormalization (x, one) z = LayerNormalization (x, one)",
            outputs="float[b,4,6] y, float[b,4,6] z", one=np.ones(6, np.float32),
        ),
        X,
    ),
    "a bias that is added twice": (
        graph(
            "a = Add (x, g) p = MatMul (a, w) q = Add (p, h) y = Add (q, h)",
            g=weights(6), w=weights(6, 6), h=weights(6),
        ),
        X,
    ),
    "branches that each add a number": (
        graph(
            "a = MatMul (x, v) c = Add (a, s) d = MatMul (x, w) e = Add (d, t) y = Sum (c, e)",
            v=weights(6, 6), w=weights(6, 6), s=np.float32(0.25), t=np.float32(0.5),
        ),
        X,
    ),
    "a weight that the graph returns": (
        graph(
            "a = Mul (x, g) y = MatMul (a, w)", outputs="float[b,4,6] y, float[6,6] w", g=weights(6), w=weights(6, 6),
        ),
        X,
    ),
    "a product of integers, which wraps around": (
        graph(
            "a = Add (x, o) y = MatMul (a, w)", inputs="int32[b,4,6] x", outputs="int32[b,4,6] y",
            o=np.full(6, 2**30, np.int32), w=np.full((6, 6), 3, np.int32),
        ),
        {"x": np.arange(48, dtype=np.int32).reshape(2, 4, 6)},
    ),
    "a sum of scalars": (graph("a = ReduceSum <keepdims = 0> (x) y = Sum (a, a)", outputs="float y"), X),
    "an empty value": (
        graph(
            "n = Slice (x, zero, zero, axis) a = MatMul (n, w) y = Add (a, v)", outputs="float[b,0,6] y",
            zero=[0], axis=[1], w=weights(6, 6), v=weights(6),
        ),
        X,
    ),
    "a scale of zero": (
        graph(
            """k = Transpose <perm = [0, 1, 3, 2]> (x) s = MatMul (x, k) t = Mul (s, nought)
            w = Softmax (t) y = MatMul (w, x)""",
            inputs="float[b,2,4,6] x", outputs="float[b,2,4,6] y", nought=np.float32(0),
        ),
        images(x=(2, 2, 4, 6)),
    ),
    "free lengths of two names": (
        graph(
            "a = MatMul (x, v) c = MatMul (z, w) y = Sum (a, c)", inputs="float[b,4,6] x, float[one,4,6] z",
            v=weights(6, 6), w=weights(6, 6),
        ),
        images(x=(3, 4, 6), z=(1, 4, 6)),
    ),
    "a default that the caller replaces": (
        graph("a = MatMul (x, w) y = Add (a, h)", inputs="float[b,4,6] x, float[6,6] w", w=weights(6, 6), h=weights(6)),
        images(x=(2, 4, 6), w=(6, 6)),
    ),
    "a shape in int32": (
        graph(
            """s = Shape (x) t = Cast <to = 6> (s) p = Add (t, t) q = Cast <to = 7> (p) r = Slice (q, one, three)
            y = ConstantOfShape (r)""",
            outputs="float[8,12] y", one=[1], three=[3],
        ),
        X,
    ),
    "integers that wrap around": (
        graph(
            """s = Shape <start = 1> (x) p = Mul (s, most) q = Cast <to = 1> (p)
            r = ReduceMax <keepdims = 0> (q) y = Add (x, r)""",
            most=[2**62],
        ),
        X,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_an_odd_graph_is_rewritten_or_left_and_answers_as_before(name: str) -> None:
    check(*ODD[name])


def test_free_lengths_without_names_get_different_ones() -> None:
    model = graph(
        "a = MatMul (x, v) c = MatMul (z, w) y = Sum (a, c)", inputs="float[?,4,6] x, float[?,4,6] z",
        outputs="float[?,4,6] y", v=weights(6, 6), w=weights(6, 6),
    )  # fmt: skip
    Trial(model, images(x=(3, 4, 6), z=(1, 4, 6)), on_runtime, CLOSE).check_layouts()


def test_a_name_that_the_graph_has_is_not_given_again() -> None:
    model = ir.from_proto(graph("a = Relu (x) y = Relu (a)"))
    first, _ = model.graph
    assert {add_constant(model.graph, name, np.ones(1)).name for name in ("a", "x", "b")} == {"a_1", "x_1", "b"}
    assert add_node(first, "Relu", [model.graph.inputs[0]], name="y").name == "y_1"


def test_an_output_that_cannot_be_renamed_is_copied() -> None:
    model = ir.from_proto(graph("a = Relu (x) y = Neg (x)"))
    substitute(model.graph.outputs[0], model.graph.inputs[0])
    assert [value.name for value in (*model.graph.inputs, *model.graph.outputs)] == ["x", "y"]
    (answer,) = on_runtime(ir.to_proto(model), X)
    assert np.array_equal(answer, X["x"])


def test_what_a_subgraph_reads_has_another_reader() -> None:
    model = ir.from_proto(
        graph(
            """a = MatMul (x, w) s = ReduceSum <keepdims = 0> (x) c = Less (s, nought)
            y = If (c) <then_branch = t () => (float[b,4,6] p) { p = Add (a, h) },
                        else_branch = e () => (float[b,4,6] q) { q = Neg (a) }>""",
            w=weights(6, 6), h=weights(6), nought=np.float32(0),
        )
    )  # fmt: skip
    product = next(iter(model.graph))
    assert [reader.op_type for reader in readers(result(product))] == ["Subgraph"]
    assert prepare.why_not(model) == "If: If holds a subgraph"


def test_a_default_of_an_input_is_no_constant_and_stays_an_input() -> None:
    proto = graph("y = MatMul (x, w)", inputs="float[b,4,6] x, float[6,6] w", w=weights(6, 6))
    model = ir.from_proto(proto)
    assert const(model.graph.initializers["w"]) is None
    for _ in applied(model, foreign_steps(model, "folded")):
        pass
    assert [value.name for value in model.graph.inputs] == ["x", "w"]
    assert list(model.graph.initializers) == ["w"]


def test_a_window_of_keys_is_not_overlooked() -> None:
    body = """k = Add (x, h) v = MatMul (x, w) r = MatMul (x, w)
        o = Attention <q_num_heads = 2, kv_num_heads = 2, left_window_size = 1> (r, k, v) y = MatMul (o, w)"""
    model = graph(body, opset=25, h=weights(6), w=weights(6, 6))
    assert "left_window_size is not one of `Attention`-23" in refusals(biases.apply, model)
    done = lower.apply(ir.from_proto(model))
    assert (done.times, done.refusals) == (
        0,
        ["Attention: its attribute left_window_size is not one of `Attention`-23"],
    )


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        ("y = TopK (x, k)", "bfloat16", "TopK of BFLOAT16 is newer than opset 20"),
        ("y = MaxPool <kernel_shape = [2], ceil_mode = 1> (x)", "float", "MaxPool has another meaning at opset 20"),
    ],
)
def test_what_an_older_opset_lacks_keeps_the_graph_newer(body: str, kind: str, reason: str) -> None:
    body = body.replace("y =", "y, n =" if "TopK" in body else "y =")
    sizes = "[b,4,6] y" if "TopK" in body else "[b,4,3] y"
    model = ir.from_proto(graph(body, inputs=f"{kind}[b,4,6] x", outputs=kind + sizes, opset=24, k=[6]))
    (told,) = lower.apply(model).refusals
    assert reason in told


@pytest.mark.parametrize("opset", [20, 23])
def test_a_pool_that_rounds_up_stays_in_an_opset_with_the_same_meaning(opset: int) -> None:
    body = "a = Mul (x, s) p = MatMul (a, w) y = MaxPool <kernel_shape = [2], ceil_mode = 1> (p)"
    proto = graph(body, outputs="float[b,4,3] y", opset=opset, s=weights(6), w=weights(6, 6))
    model = ir.from_proto(proto)
    done = {one.name: one for one in applied(model, foreign_steps(model, "folded"))}
    assert done["scales"].times == 1
    assert model.opset_imports[""] == opset


@pytest.mark.parametrize(
    ("inputs", "gone"),
    [("x", True), ("x, ratio, no", True), ("x, , no", True), ("x, ratio, yes", False), ("x, ratio, asked", False)],
)
def test_a_dropout_goes_only_where_it_certainly_drops_nothing(inputs: str, gone: bool) -> None:
    given = "float[b,4,6] x, bool asked" if "asked" in inputs else "float[b,4,6] x"
    body = f"d = Dropout ({inputs}) y = Relu (d)"
    model = ir.from_proto(graph(body, inputs=given, ratio=np.float32(0.5), no=np.False_, yes=np.True_))
    prepare.apply(model)
    assert ("Dropout" not in [node.op_type for node in model.graph]) == gone


def test_a_scale_that_float32_would_round_keeps_attention_written_out() -> None:
    body = """k = Transpose <perm = [0, 1, 3, 2]> (x) s = MatMul (x, k) t = Mul (s, third)
        w = Softmax (t) y = MatMul (w, x)"""
    for dtype, name in ((np.float32, "float"), (np.float64, "double")):
        sizes = f"{name}[b,2,4,6]"
        model = graph(body, inputs=f"{sizes} x", outputs=f"{sizes} y", third=dtype(1 / 3))
        done = attention.apply(ir.from_proto(model).graph)
        assert done.times == (dtype is np.float32)
        assert bool(done.refusals) == (dtype is np.float64)


def test_operators_of_other_domains_are_not_merged() -> None:
    text = """<ir_version: 10, opset_import: ["" : 23, "mine" : 1]> g (float[b] x) => (float[b] y)
        { a = mine.Draw (x) c = mine.Draw (x) y = Add (a, c) }"""
    model = ir.from_proto(parser.parse_model(text))
    assert tidy.apply(model.graph).times == 0
    assert len(model.graph) == 3


def test_equal_nodes_are_merged_only_where_both_name_the_output_that_is_read() -> None:
    gru = "GRU <hidden_size = 6> (x, w, r)"
    body = f"a, h = {gru} c, k = {gru} d = Squeeze (c, one) y = Add (d, h) z = Add (d, k)"
    outputs = "float[4,b,6] y, float[4,b,6] z"
    model = graph(body, inputs="float[4,b,6] x", outputs=outputs, w=weights(1, 18, 6), r=weights(1, 18, 6), one=[1])
    model.graph.node[0].output[0] = ""
    check(model, images(x=(4, 2, 6)))


def test_a_pass_for_newer_graphs_leaves_an_old_one() -> None:
    model = ir.from_proto(
        graph("a = Gather <axis = 1> (x, i) y = Relu (a)", outputs="float[b,6] y", opset=13, i=np.asarray(0))
    )
    assert "its opset is 13; expected at least 18" in select.apply(model.graph).refusals[0]
    for layout in LAYOUTS:
        steps = foreign_steps(model, layout)
        assert not [reason for done in applied(model, steps) for reason in done.refusals if FAULT in reason]


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        (
            "q = Squeeze (p, nought) a, c = Split <axis = -1, num_outputs = 2> (q)",
            "Squeeze removes or adds the axes [0], which is not possible with a free batch",
        ),
        ("a = Gather <axis = 0> (p, five) c = Gather <axis = 0> (p, nought)", "do not exist for every batch"),
    ],
)
def test_a_packed_product_whose_batch_is_cut_is_refused(cut: str, reason: str) -> None:
    model = graph(
        f"p = MatMul (x, w) {cut} y = Add (a, c)", outputs="float[?] y", w=weights(6, 6), nought=[0], five=[5]
    )
    assert reason in refusals(packed.apply, model)


def test_a_node_with_several_outputs_has_no_only_result() -> None:
    split = next(
        iter(ir.from_proto(graph("a, c = Split <axis = 2, num_outputs = 2> (x) y = Concat <axis = 2> (a, c)")).graph)
    )
    with pytest.raises(Refused, match="Split has 2 outputs"):
        result(split)


def test_a_graph_whose_shapes_cannot_be_inferred_is_counted_as_far_as_it_goes() -> None:
    model = graph("a = MatMul (x, w) y = Relu (a)", w=weights(6, 6))
    model.graph.node[1].op_type = "Unheard"
    (whole,) = branch_costs(ir.from_proto(model).graph)
    assert (whole.nodes, whole.parameters, whole.multiply_adds) == (2, 36, 4 * 6 * 6)


def test_offsets_of_a_value_that_the_graph_returns_stay() -> None:
    model = ir.from_proto(
        graph(
            "y = Add (x, h) z = MatMul (y, w)", outputs="float[b,4,6] y, float[b,4,6] z", h=weights(6), w=weights(6, 6)
        )
    )
    assert offsets.apply(model.graph).times == 0


def test_unsupported_graphs_are_refused_once_and_stay_unchanged() -> None:
    model = ir.from_proto(graph("y = Relu (x)", opset=12))
    with pytest.raises(Refused, match="its opset is 12; expected at least 13"):
        shapes.apply(model)
