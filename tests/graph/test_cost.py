"""Multiply-adds equal numbers counted by hand."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from paraexport.graph.cost import branch_costs, multiply_adds, multiply_adds_by_branch, multiply_adds_by_node
from paraexport.rewrite.passes import stack
from tests.rewrite.graphs import SMALL, graph64, model_of, traced
from tests.rewrite.little import Little, outputs_of

TOKENS, DIM, MLP, HEADS, HEAD_DIM = 9, 12, 20, 3, 4
BRANCH_MULTIPLY_ADDS = 2 * (
    4 * TOKENS * DIM * HEADS * HEAD_DIM  # query, key, value, output
    + 2 * HEADS * TOKENS * TOKENS * HEAD_DIM
    + 2 * TOKENS * DIM * MLP
)


@pytest.mark.parametrize("batch", [1, 5])
def test_a_traced_model_is_counted_by_branch(batch: int) -> None:
    counts = multiply_adds_by_branch(graph64().graph, batch)
    embedding, head = 8 * 6 * DIM, DIM * 5
    assert counts.pop(None) == batch * (embedding + head)
    assert counts == dict.fromkeys(range(3), batch * BRANCH_MULTIPLY_ADDS)
    assert multiply_adds(graph64().graph, batch) == batch * (embedding + head + 3 * BRANCH_MULTIPLY_ADDS)


def test_parts_have_the_parameters_that_pytorch_counts() -> None:
    model, found = model_of(SMALL), {part.name: part for part in branch_costs(graph64().graph)}
    assert list(found) == ["branch 0", "branch 1", "branch 2", "shared"]
    for index, branch in enumerate(model.branches):
        part = found[f"branch {index}"]
        assert part.parameters == sum(parameter.numel() for parameter in branch.parameters())
        assert part.multiply_adds == BRANCH_MULTIPLY_ADDS
    assert sum(part.parameters for part in found.values()) == sum(one.numel() for one in model.parameters())
    assert sum(part.nodes for part in found.values()) == len(graph64().graph)


def test_activations_are_as_many_numbers_as_the_nodes_write() -> None:
    (part,) = branch_costs(graph64(branches=1, depth=1).graph)[:1]
    attention = TOKENS * DIM * (1 + 3 + 3 + 3 + 3 + 1 + 1 + 1 + 1 + 1 + 1)  # norm, q k v with bias, in heads, out, skip
    feed_forward = TOKENS * (DIM + 3 * MLP + 3 * DIM)  # norm; fc1, its bias, GELU; fc2, its bias, skip
    assert part.activations == attention + feed_forward


def test_stacked_branches_are_one_part_with_as_much_work() -> None:
    model = graph64(pool="mean", norm="before")
    stack.apply(model.graph)
    found = {part.name: part for part in branch_costs(model.graph)}
    assert found["merged branches"].multiply_adds == 3 * BRANCH_MULTIPLY_ADDS
    assert not any(name.startswith("branch ") for name in found)


def test_counting_leaves_the_graph_as_it_is() -> None:
    model = ir.from_proto(traced(SMALL))
    before = ir.to_proto(model).SerializeToString()
    multiply_adds(model.graph, 7)
    assert ir.to_proto(model).SerializeToString() == before


def test_a_convolution_counts_its_kernel_for_every_output() -> None:
    graph = Little("batch", 4, 9, 11)
    out = graph.node("Conv", graph.input, graph.weight(6, 2, 3, 5), group=2, strides=[2, 2])
    assert multiply_adds(graph.model(out).graph, 2) == 2 * (6 * 4 * 4) * (2 * 3 * 5)


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_counts_what_it_sums_over(transposed: int) -> None:
    graph = Little(*((5, 3) if transposed else (3, 5)))
    out = graph.node("Gemm", graph.input, graph.weight(5, 7), transA=transposed)
    assert multiply_adds(graph.model(out).graph) == 3 * 5 * 7


def test_attention_with_fewer_queries_than_keys_counts_queries_times_keys() -> None:
    graph = Little("batch", 6, 8)
    query = graph.node("Slice", graph.input, graph.integers(0), graph.integers(2), graph.integers(1))
    key, value = graph.weight(5, 6, 4), graph.weight(5, 6, 10)
    model = graph.model(graph.node("Attention", query, key, value, q_num_heads=4, kv_num_heads=2))
    batch, queries, keys, heads, query_dim, value_dim = 5, 2, 6, 4, 2, 5
    assert outputs_of(model, np.ones((batch, 6, 8)))[0].shape == (batch, queries, heads * value_dim)
    assert multiply_adds(model.graph, batch) == batch * heads * queries * keys * (query_dim + value_dim)


def test_shapes_that_the_graph_does_not_tell_are_inferred() -> None:
    model = graph64()
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    assert multiply_adds_by_branch(model.graph, 2) == multiply_adds_by_branch(graph64().graph, 2)


def test_every_node_that_cannot_be_counted_is_named() -> None:
    graph = Little("batch", 3, "width")
    first = graph.node("MatMul", graph.input, graph.node("Transpose", graph.input, perm=[0, 2, 1]))
    second = graph.node("MatMul", first, graph.input)
    model = graph.model(graph.node("Relu", graph.dense(graph.node("Softmax", first), 3, 2)), second)
    counts = {node.name: count for node, count in multiply_adds_by_node(model.graph)}
    assert counts["MatMul1"] is None
    assert counts["MatMul2"] is None
    assert counts["MatMul4"] == 1 * 3 * 3 * 2
    with pytest.raises(ValueError, match=r"MatMul1, MatMul2$"):
        multiply_adds(model.graph)


def test_mean_pooling_without_a_class_token_has_one_token_less() -> None:
    fields: dict[str, Any] = {"branches": 2, "depth": 1, "pool": "mean", "class_token": False, "residual": "input"}
    layer = 4 * 8 * DIM * DIM + 2 * HEADS * 8 * 8 * HEAD_DIM + 2 * 8 * DIM * MLP
    assert multiply_adds(graph64(**fields).graph) == 8 * 6 * DIM + 2 * layer + DIM * 5
