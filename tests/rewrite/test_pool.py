"""Early pooling is exact, moves only if a product gets smaller, and stops at operators that are not linear."""

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
from paraexport.rewrite.passes import pool, select
from tests.rewrite.exact import EXACT, difference
from tests.rewrite.graphs import SMALL, count, graph64, images, traced
from tests.rewrite.little import Little, drawn, error

MEAN_OF_ALL: dict[str, Any] = {
    "branches": 2,
    "pool": "mean",
    "class_token": False,
    "residual": "input",
    "layer_scale": True,
}
MEAN_OF_PATCHES: dict[str, Any] = {"branches": 2, "depth": 1, "pool": "patch_mean", "residual": "input"}
TRACED: list[dict[str, Any]] = [MEAN_OF_ALL, MEAN_OF_PATCHES, {"branches": 1, "depth": 1, "pool": "mean"}]


def pooled(model: ir.Model) -> Applied:
    applied = pool.apply(model.graph)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    return applied


def refusal(model: ir.Model) -> str:
    """The reason of a refusal, after a check that nothing changed."""
    before = ir.to_proto(model).SerializeToString()
    applied = pooled(model)
    assert applied.times == 0
    assert ir.to_proto(model).SerializeToString() == before
    return "\n".join(applied.refusals)


def changed(model: ir.Model) -> ir.Model:
    before = model.clone()
    assert pooled(model) == Applied("pool", 1)
    assert error(before, model) <= EXACT
    return model


def shape(model: ir.Model, name: str) -> tuple[int | None, ...] | None:
    return next(dims(value) for node in model.graph for value in node.outputs if node.name == name)


@pytest.mark.parametrize("fields", TRACED, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_traced_models_are_the_same(fields: dict[str, Any], batch: int) -> None:
    before, after = graph64(**fields), graph64(**fields)
    select.apply(after.graph)
    selected = multiply_adds(after.graph)
    assert pooled(after) == Applied("pool", 1)
    assert difference(before, after, images(batch=batch)) <= EXACT
    assert multiply_adds(after.graph) < selected


@pytest.mark.parametrize("fields", TRACED, ids=str)
def test_float32_models_run_the_same(fields: dict[str, Any]) -> None:
    proto = traced(Spec(**{**vars(SMALL), **fields}))
    after = ir.from_proto(proto)
    select.apply(after.graph)
    pooled(after)
    feeds = {"images": images().astype(np.float32)}
    expected, got = (
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]
        for model in (proto, ir.to_proto(after))
    )
    assert np.abs(got - expected).max() / np.abs(expected).max() <= 1e-5


def test_the_last_linear_map_has_one_row_an_image() -> None:
    model = graph64(**MEAN_OF_ALL)
    before = multiply_adds_by_branch(model.graph)
    pooled(model)
    tokens, dim, mlp = 8, 12, 20
    saved = (tokens - 1) * dim * mlp
    assert multiply_adds_by_branch(model.graph) == {None: before[None], 0: before[0] - saved, 1: before[1] - saved}
    for branch in range(2):
        layer = f"branches.{branch}/layers.1"
        assert shape(model, f"{layer}/feed_forward/fc2/MatMul") == (None, 1, dim)
        assert shape(model, f"{layer}/feed_forward/Gelu") == (None, tokens, mlp)
        means = [node.name for node in model.graph if (node.name or "").startswith(layer) and "Mean" in node.op_type]
        assert means == [f"{layer}/feed_forward/Gelu/ReduceMean", f"{layer}/Add/ReduceMean"]
    assert shape(model, "pool/Squeeze") == (None, dim)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {"branches": 2, "depth": 1, "pool": "mean", "norm": "before"},
            "LayerNormalization cannot be computed in part",
        ),
        (
            {"branches": 2, "depth": 1, "pool": "mean", "residual": "post"},
            "no product would get smaller if the mean moved; LayerNormalization cannot",
        ),
    ],
)
def test_a_norm_before_the_pool_stops_it(fields: dict[str, Any], reason: str) -> None:
    assert reason in refusal(graph64(**fields))


def test_a_bias_that_varies_along_the_tokens_is_averaged() -> None:
    graph = Little("batch", 5, 4)
    moved = graph.node("Add", graph.dense(graph.input, 4, 3), graph.weight(5, 1))
    model = changed(graph.model(graph.node("ReduceMean", moved, graph.integers(-2), keepdims=1)))
    assert shape(model, "Add2") == (None, 1, 3)
    assert count(model, "ReduceMean") == 1


def test_the_mean_passes_heads_and_scales_on_its_way() -> None:
    graph = Little("batch", 5, 4)
    heads = graph.node("Reshape", graph.dense(graph.input, 4, 6), graph.integers(-1, 5, 2, 3))
    turned = graph.node("Transpose", graph.node("Mul", heads, graph.weight(2, 1)), perm=[0, 2, 1, 3])
    halved = graph.node("Div", turned, graph.constant(np.array(2.0)))
    model = changed(graph.model(graph.node("ReduceMean", halved, graph.integers(2), keepdims=0)))
    assert shape(model, "MatMul0") == (None, 1, 6)


def test_products_of_attention_taken_apart_have_one_row() -> None:
    graph = Little("batch", 5, 4)
    weights = graph.node("Softmax", graph.dense(graph.input, 4, 5), axis=-1)
    model = changed(
        graph.model(graph.node("ReduceMean", graph.node("MatMul", weights, graph.input), graph.integers(1)))
    )
    assert shape(model, "MatMul3") == (None, 1, 4)


@settings(deadline=None, max_examples=150)
@given(drawn())
def test_random_graphs_are_the_same(model: ir.Model) -> None:
    before = model.clone()
    applied = pooled(model)
    assert error(before, model) <= EXACT
    saved = multiply_adds(before.graph, 3) - multiply_adds(model.graph, 3)
    assert saved > 0 if applied.times else saved == 0


def test_random_graphs_apply_now_and_then() -> None:
    find(drawn(), lambda model: pooled(model).times > 0)


def of_a_square(graph: Little, tokens: str) -> str:
    return graph.node("Mul", tokens, tokens)


def of_a_quotient(graph: Little, tokens: str) -> str:
    return graph.node("Div", graph.constant(np.ones(3)), tokens)


def of_varied_scales(graph: Little, tokens: str) -> str:
    return graph.node("Mul", tokens, graph.weight(5, 1))


def of_an_activation(graph: Little, tokens: str) -> str:
    return graph.node("Relu", tokens)


def of_a_slice(graph: Little, tokens: str) -> str:
    return graph.node("Slice", tokens, *(graph.integers(number) for number in (1, 5, 1)))


def of_joined_tokens(graph: Little, tokens: str) -> str:
    return graph.node("Concat", tokens, graph.node("MatMul", tokens, graph.weight(3, 3)), axis=1)


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        (of_a_square, "both operands of Mul vary along the axis"),
        (of_a_quotient, "the divisor varies along the axis"),
        (of_varied_scales, "both operands of Mul vary along the axis"),
        (of_an_activation, "Relu cannot be computed in part"),
        (of_a_slice, "Slice cannot be computed in part"),
        (of_joined_tokens, "Concat joins its inputs along this axis"),
    ],
)
def test_what_is_not_linear_is_refused(middle: object, reason: str) -> None:
    graph = Little("batch", 5, 4)
    assert callable(middle)
    last = middle(graph, graph.dense(graph.input, 4, 3))
    assert reason in refusal(graph.model(graph.node("ReduceMean", last, graph.integers(1), keepdims=0)))


def test_tokens_that_are_also_read_one_by_one_stay_separate() -> None:
    graph = Little("batch", 5, 4)
    tokens = graph.dense(graph.input, 4, 3)
    mean = graph.node("ReduceMean", tokens, graph.integers(1), keepdims=0)
    assert "`Relu3` reads the whole of its input `Add1`" in refusal(graph.model(mean, graph.node("Relu", tokens)))
    assert "`Add1` is also an output of the graph" in refusal(graph.model(mean, tokens))
    other = graph.node("ReduceMean", tokens, graph.integers(2), keepdims=0)
    assert "`ReduceMean4` reads another part of its input `Add1`" in refusal(graph.model(mean, other))


def test_a_mean_over_several_axes_or_images_is_refused() -> None:
    graph = Little("batch", 5, 4)
    tokens = graph.dense(graph.input, 4, 3)
    means = [graph.node("ReduceMean", tokens, graph.integers(*over), keepdims=0) for over in ((1, 2), (0,))]
    reasons = [refusal(graph.model(mean)) for mean in means]
    assert ["it averages 2 axes" in reasons[0], "the length of axis 0 is not known" in reasons[1]] == [True, True]


def test_sums_alone_are_no_reason_to_move() -> None:
    graph = Little("batch", 5, 4)
    total = graph.node("Sum", graph.node("Relu", graph.input), graph.node("Tanh", graph.input), graph.input)
    reason = refusal(graph.model(graph.node("ReduceMean", total, graph.integers(1), keepdims=0)))
    assert "no product would get smaller if the mean moved; Relu cannot be computed in part; Tanh cannot" in reason


def test_old_operator_sets_are_left_alone() -> None:
    graph = Little("batch", 5, 4, opset=17)
    mean = graph.node("ReduceMean", graph.dense(graph.input, 4, 3), axes=[1], keepdims=0)
    assert refusal(graph.model(mean)) == "graph: its opset is 17; expected at least 18"
