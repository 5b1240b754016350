"""Early selection is exact, computes no unread token, and changes nothing if other tokens are read too."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import find, given, settings

from paraexport.graph.cost import multiply_adds, multiply_adds_by_branch
from paraexport.graph.refusal import Applied
from paraexport.graph.shapes import dims
from paraexport.model.spec import Spec
from paraexport.rewrite.passes import select
from tests.rewrite.exact import EXACT, difference
from tests.rewrite.graphs import SMALL, count, graph64, images, traced
from tests.rewrite.little import Little, drawn, error

ONE_LAYER = {"branches": 2, "depth": 1}
TRACED: list[dict[str, Any]] = [
    {},
    {**ONE_LAYER, "residual": "input", "norm": "before"},
    {"branches": 1, "depth": 1, "residual": "post", "norm": "after"},
    {"branches": 2, "pool": "patch_mean", "norm": "before"},
    {**ONE_LAYER, "pool": "patch_mean", "residual": "input"},
]
RELEASED = Spec(
    image_size=(32, 32), channels=3, classes=10, patch_size=(4, 4), dim=192, branches=2, depth=2, heads=3, head_dim=64,
    mlp_dim=768, residual="normalized", qkv_bias=False,
)  # fmt: skip


def selected(model: ir.Model) -> Applied:
    applied = select.apply(model.graph)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    return applied


def refusal(model: ir.Model) -> str:
    """The reason of a refusal, after a check that nothing changed."""
    before = ir.to_proto(model).SerializeToString()
    applied = selected(model)
    assert applied.times == 0
    assert ir.to_proto(model).SerializeToString() == before
    return "\n".join(applied.refusals)


def changed(model: ir.Model) -> ir.Model:
    """The graph after a rewrite that must apply, be exact, and refuse nothing."""
    before = model.clone()
    applied = selected(model)
    assert applied.times >= 1
    assert applied.refusals == []
    assert error(before, model) <= EXACT
    return model


def shape(model: ir.Model, name: str) -> tuple[int | None, ...] | None:
    return next(dims(value) for node in model.graph for value in node.outputs if node.name == name)


@pytest.mark.parametrize("fields", TRACED, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_traced_models_are_the_same(fields: dict[str, Any], batch: int) -> None:
    before, after = graph64(**fields), graph64(**fields)
    assert selected(after) == Applied("select", 1)
    assert difference(before, after, images(batch=batch)) <= EXACT
    assert multiply_adds(after.graph) < multiply_adds(before.graph)


@pytest.mark.parametrize("fields", TRACED, ids=str)
def test_float32_models_run_the_same(fields: dict[str, Any]) -> None:
    proto = traced(Spec(**{**vars(SMALL), **fields}))
    after = ir.from_proto(proto)
    selected(after)
    feeds = {"images": images().astype(np.float32)}
    expected, got = (
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]
        for model in (proto, ir.to_proto(after))
    )
    assert np.abs(got - expected).max() / np.abs(expected).max() <= 1e-5


def test_the_last_layer_computes_one_token_but_all_keys_and_values() -> None:
    before, after = graph64(), graph64()
    selected(after)
    for branch in range(3):
        layer = f"branches.{branch}/layers.1"
        for place in ("query/MatMul", "output/Add", "Transpose_3"):
            assert (shape(after, f"{layer}/attention/{place}") or ())[1] == 1
        assert shape(after, f"{layer}/attention/Attention") == (None, 3, 1, 4)
        assert shape(after, f"{layer}/feed_forward/fc1/MatMul") == (None, 1, 20)
        for place in ("key/MatMul", "value/MatMul"):
            assert shape(after, f"{layer}/attention/{place}") == (None, 9, 12)
        assert shape(after, f"branches.{branch}/layers.0/feed_forward/fc1/MatMul") == (None, 9, 20)
    names = {node.name for node in before.graph}
    assert names - {node.name for node in after.graph} == {"pool/Gather"}
    assert {node.name for node in after.graph} - names == {
        "pool/Squeeze", *(f"branches.{branch}/layers.1/attention_norm/Slice" for branch in range(3))
    }  # fmt: skip
    assert shape(after, "pool/Squeeze") == (None, 12)
    assert "pool" in {value.name for node in after.graph for value in node.outputs}


def test_the_input_that_all_branches_read_is_sliced_once() -> None:
    after = graph64(**TRACED[1])
    selected(after)
    slices = [str(node.name) for node in after.graph if node.op_type == "Slice"]
    norms = [f"branches.{branch}/layers.0/attention_norm/Slice" for branch in range(2)]
    assert sorted(slices) == [*norms, "embedding/Slice"]


def test_a_second_run_has_nothing_left_to_do() -> None:
    model = graph64()
    selected(model)
    assert "reads the whole of its input `branches.0/layers.1/attention_norm`" in refusal(model)


def test_multiply_adds_of_the_last_layer_are_as_counted_by_hand() -> None:
    after = graph64()
    selected(after)
    tokens, dim, mlp = 9, 12, 20
    whole = 4 * tokens * dim * dim + 2 * tokens * tokens * dim + 2 * tokens * dim * mlp
    last = 2 * tokens * dim * dim + 2 * dim * dim + 2 * tokens * dim + 2 * dim * mlp
    counts = multiply_adds_by_branch(after.graph)
    assert counts.pop(None) == 8 * 6 * dim + dim * 5
    assert counts == dict.fromkeys(range(3), whole + last)


@pytest.mark.parametrize(("depth", "most"), [(2, 0.60), (1, 0.20)])
def test_multiply_adds_of_the_released_architecture_fall(depth: int, most: float) -> None:
    model = ir.from_proto(traced(Spec(**{**vars(RELEASED), "depth": depth})))
    before = multiply_adds(model.graph)
    selected(model)
    assert 0 < multiply_adds(model.graph) <= most * before


@settings(deadline=None, max_examples=150)
@given(drawn())
def test_random_graphs_are_the_same(model: ir.Model) -> None:
    before = model.clone()
    selected(model)
    assert error(before, model) <= EXACT
    assert multiply_adds(model.graph, 3) <= multiply_adds(before.graph, 3)


def test_random_graphs_apply_now_and_then() -> None:
    find(drawn(), lambda model: "Attention" in {node.op_type for node in model.graph} and selected(model).times > 0)


@pytest.mark.parametrize("index", [0, 1, -1, -4])
def test_the_index_is_the_one_that_was_asked_for(index: int) -> None:
    graph = Little("batch", 5, 4)
    model = graph.model(graph.token(graph.node("Relu", graph.dense(graph.input, 4, 3)), index))
    after = changed(model.clone())
    assert shape(after, "MatMul0") == (None, 1, 3)
    (start,) = (node.inputs[1] for node in after.graph if node.op_type == "Slice")
    assert start is not None
    assert start.const_value is not None
    assert start.const_value.numpy().tolist() == [index % 5]


def test_attention_taken_apart_works_through_its_products() -> None:
    graph = Little("batch", 5, 4)
    heads = [
        graph.node(
            "Transpose", graph.node("Reshape", graph.dense(graph.input, 4, 6), graph.integers(0, 5, 2, 3)), perm=p
        )
        for p in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
    ]
    weights = graph.node("Softmax", graph.node("MatMul", heads[0], heads[1]), axis=-1)
    mixed = graph.node("Transpose", graph.node("MatMul", weights, heads[2]), perm=[0, 2, 1, 3])
    merged = graph.node("Reshape", mixed, graph.integers(-1, 5, 6))
    model = changed(graph.model(graph.token(graph.dense(merged, 6, 4))))
    sizes = {node.name: dims(node.outputs[0]) for node in model.graph if node.op_type == "MatMul"}
    assert [size for size in sizes.values() if size and size[-2] == 1] == [
        (None, 1, 6), (None, 2, 1, 5), (None, 2, 1, 3), (None, 1, 4)
    ]  # fmt: skip


def test_two_readers_of_one_token_share_what_is_computed() -> None:
    graph = Little("batch", 5, 4)
    tokens = graph.node("Relu", graph.dense(graph.input, 4, 3))
    model = graph.model(graph.dense(graph.token(tokens), 3, 2), graph.node("Tanh", graph.token(tokens, -5)))
    changed(model)
    assert count(model, "Slice") == 1
    assert shape(model, "Relu2") == (None, 1, 3)


def test_the_same_token_may_leave_the_graph_twice() -> None:
    graph = Little("batch", 5, 4)
    tokens = graph.node("Relu", graph.input)
    bounds = [graph.integers(number) for number in (1, 3, 1)]
    changed(graph.model(graph.node("Slice", tokens, *bounds), graph.node("Slice", tokens, *bounds)))


def test_the_class_token_of_a_concat_needs_no_patches() -> None:
    graph = Little("batch", 4, 3)
    token = graph.constant(np.ones((1, 1, 3)))
    pair = [graph.node("Slice", graph.input, *(graph.integers(n) for n in (0, 1, 1))), graph.dense(graph.input, 3, 3)]
    tokens = graph.node("Add", graph.node("Concat", *pair, axis=1), graph.weight(1, 5, 3))
    model = changed(graph.model(graph.token(graph.node("Add", tokens, token))))
    assert count(model, "Concat") == count(model, "MatMul") == 0
    assert count(model, "Slice") == 1


def test_an_unread_input_of_a_concat_is_not_computed() -> None:
    graph = Little("batch", 4, 3)
    tokens = graph.node("Relu", graph.dense(graph.input, 3, 3))
    ends = [graph.node("Slice", tokens, *(graph.integers(n) for n in (first, first + 1, 1))) for first in (0, 3)]
    model = changed(graph.model(graph.token(graph.node("Concat", *ends, axis=1), 1)))
    assert shape(model, "Relu2") == (None, 1, 3)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_row_or_a_column_of_gemm_needs_one_of_a_factor(transposed: int, axis: int) -> None:
    graph = Little(4, 4)
    shared, whole = graph.weight(1, 4), graph.weight(4, 4)
    for added in (shared, whole):
        product = graph.node(
            "Gemm", graph.input, graph.weight(4, 4), added, transA=transposed, transB=transposed, beta=2.0
        )
        model = changed(graph.model(graph.token(product, 2, axis)))
        assert multiply_adds(model.graph) == 4 * 4


def test_axes_of_length_one_come_and_go() -> None:
    graph = Little("batch", 5, 1, 4)
    flat = graph.node("Squeeze", graph.node("Relu", graph.input), graph.integers(2))
    model = changed(graph.model(graph.token(graph.node("Unsqueeze", flat, graph.integers(0)), 3, axis=2)))
    assert shape(model, "Relu0") == (None, 1, 1, 4)
    unlisted = Little(2, 5, 1, 4)
    flat = unlisted.node("Squeeze", unlisted.node("Relu", unlisted.input))
    assert "Squeeze does not list its axes" in refusal(unlisted.model(unlisted.token(flat)))


def test_a_zero_in_the_target_of_a_reshape_still_copies_the_old_length() -> None:
    graph = Little(6, 3, 2)
    apart = graph.node("Reshape", graph.node("Relu", graph.input), graph.integers(2, 0, 3, 2))
    model = changed(graph.model(graph.token(apart, 1, 2)))
    assert shape(model, "Reshape1") == (2, 3, 1, 2)
    same = graph.node("Reshape", graph.node("Relu", graph.input), graph.integers(0, 0, 2, 1))
    model = changed(graph.model(graph.token(same, 1, 1)))
    assert shape(model, "Reshape4") == (6, 1, 2, 1)


def two_tokens(graph: Little, tokens: str) -> list[str]:
    return [graph.token(tokens, 0), graph.token(tokens, 1)]


def and_itself(graph: Little, tokens: str) -> list[str]:
    return [graph.token(tokens), tokens]


def and_a_reader(graph: Little, tokens: str) -> list[str]:
    return [graph.token(tokens), graph.node("Softmax", tokens, axis=1)]


def changing_index(graph: Little, tokens: str) -> list[str]:
    size = graph.node("Squeeze", graph.node("Shape", graph.input, start=0, end=1), graph.integers(0))
    return [graph.node("Gather", tokens, graph.node("Mod", size, graph.index(5)), axis=1)]


def every_second(graph: Little, tokens: str) -> list[str]:
    return [graph.node("Slice", tokens, *(graph.integers(number) for number in (0, 5, 1, 2)))]


def scattered(graph: Little, tokens: str) -> list[str]:
    return [graph.node("Gather", tokens, graph.integers(0, 3), axis=1)]


def of_the_batch(graph: Little, tokens: str) -> list[str]:
    return [graph.token(tokens, axis=0)]


def of_two_axes(graph: Little, tokens: str) -> list[str]:
    bounds = [graph.integers(*pair) for pair in ((0, 0), (1, 1), (1, 2))]
    return [graph.node("Slice", tokens, *bounds)]


def of_a_running_sum(graph: Little, tokens: str) -> list[str]:
    return [graph.token(graph.node("CumSum", tokens, graph.index(1)))]


def of_normalized_tokens(graph: Little, tokens: str) -> list[str]:
    return [graph.token(graph.node("Softmax", tokens, axis=1))]


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (two_tokens, "Gather3: `Gather4` reads another part of its input `Relu2`"),
        (and_itself, "Gather3: its input `Relu2` is also an output of the graph"),
        (and_a_reader, "Gather3: `Softmax4` reads the whole of its input `Relu2`"),
        (changing_index, "its index is computed; expected a constant"),
        (every_second, "Slice3: it selects from axis 1 in steps of 2; expected 1"),
        (scattered, "Gather3: its indices [0, 3] are not one range"),
        (of_the_batch, "Gather3: the length of axis 0 is not known"),
        (of_two_axes, "Slice3: it cuts several axes"),
        (
            of_a_running_sum,
            "Gather4: `CumSum3` must compute the whole of `CumSum3`: CumSum cannot be computed in part",
        ),
        (
            of_normalized_tokens,
            "Gather4: `Softmax3` must compute the whole of `Softmax3`: Softmax normalises over this axis",
        ),
    ],
)
def test_near_misses_are_refused(ending: object, reason: str) -> None:
    graph = Little("batch", 5, 4)
    assert callable(ending)
    outputs = ending(graph, graph.node("Relu", graph.dense(graph.input, 4, 3)))
    assert reason in refusal(graph.model(*outputs))


@pytest.mark.parametrize(
    ("mask", "attributes", "reason"),
    [
        ([], {"is_causal": 1}, "Attention is causal, so it depends on the positions of its queries"),
        ([(5, 5)], {}, "Attention has a mask or a cache; expected only query, key and value"),
    ],
)
def test_attention_that_depends_on_positions_is_computed_as_a_whole(
    mask: list[tuple[int, int]], attributes: dict[str, int], reason: str
) -> None:
    graph = Little("batch", 2, 5, 4)
    inputs = [graph.node("Tanh", graph.input)] * 3 + [graph.weight(*sizes) for sizes in mask]
    attention = graph.node("Attention", *inputs, **attributes)
    model = graph.model(graph.token(graph.dense(attention, 4, 3), axis=2))
    before = model.clone()
    assert selected(model) == Applied("select", 1, [f"Attention1: {reason}"])
    assert shape(model, "Attention1") == (None, 2, 5, 4)
    assert shape(model, "MatMul2") == (None, 2, 1, 3)
    assert error(before, model) <= EXACT


def test_an_operator_with_several_outputs_is_computed_whole() -> None:
    graph = Little("batch", 5, 4)
    outputs = ["normal", "mean"]
    graph.nodes.append(onnx.helper.make_node("LayerNormalization", [graph.input, graph.weight(4)], outputs, name="LN"))
    mean = graph.node("Cast", "mean", to=onnx.TensorProto.DOUBLE)
    assert "`LN` must compute the whole of `normal`: it has more than one output" in refusal(
        graph.model(graph.token("normal"), mean)
    )


def test_what_a_subgraph_reads_stays_whole() -> None:
    graph = Little("batch", 5, 4)
    tokens = graph.node("Relu", graph.dense(graph.input, 4, 3))
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("ReduceSum", [tokens], ["inner"], keepdims=0)],
        "inner",
        [],
        [onnx.helper.make_tensor_value_info("inner", onnx.TensorProto.DOUBLE, [])],
    )
    condition = graph.constant(np.array(True))
    total = graph.node("If", condition, then_branch=inner, else_branch=inner)
    assert "reads the whole of its input `Relu2`" in refusal(graph.model(graph.token(tokens), total))


def test_old_operator_sets_are_left_alone() -> None:
    graph = Little("batch", 5, 4, opset=17)
    assert (
        refusal(graph.model(graph.token(graph.node("Relu", graph.input))))
        == "graph: its opset is 17; expected at least 18"
    )
