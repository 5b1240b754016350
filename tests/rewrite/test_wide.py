"""Products of one input are one product and a Split."""

from typing import Any

import onnx
import onnx_ir as ir
import pytest

from paraexport.graph.edit import const
from paraexport.rewrite.passes import stack, wide
from tests.rewrite.exact import EXACT, difference
from tests.rewrite.graphs import count, graph64, images
from tests.rewrite.small_graphs import branches, graph_of, tokens

THREE = "    q = MatMul (x, wq)\n    k = MatMul (x, wk)\n    i = MatMul (x, wi)\n"


def check(model: ir.Model) -> None:
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def shapes(model: ir.Model) -> list[tuple[int, ...]]:
    return [array.shape for value in model.graph.initializers.values() if (array := const(value)) is not None]


@pytest.mark.parametrize(
    ("fields", "times", "merged"),
    [
        ({}, 6, 2),
        ({"residual": "post", "depth": 1, "branches": 2, "qkv_bias": False, "layer_scale": True, "activation": "relu"},
         1, 5),
    ],
    ids=["within each branch", "across branches"],
)  # fmt: skip
def test_queries_keys_and_values(fields: dict[str, Any], times: int, merged: int) -> None:
    before, after = graph64(**fields), graph64(**fields)
    applied = wide.apply(after.graph)
    assert (applied.times, applied.refusals) == (times, [])
    assert count(after, "MatMul") == count(before, "MatMul") - times * merged
    biases = 2 * times if fields.get("qkv_bias", True) else 0
    assert count(after, "Add") == count(before, "Add") - biases
    check(after)
    for batch in (1, 7):
        assert difference(before, after, images(batch=batch)) <= EXACT


def test_names() -> None:
    model = graph64()
    wide.apply(model.graph)
    names = {node.name for node in model.graph}
    assert {"branches.0/layers.0/attention/MatMul", "branches.2/layers.1/attention/Split"} <= names


def test_stacked_branches() -> None:
    before, after = graph_of(branches(3)), graph_of(branches(3))
    stack.apply(after.graph)
    products = count(after, "MatMul")
    assert wide.apply(after.graph).times == 1
    assert (3, 6, 18) in shapes(after)
    assert count(after, "MatMul") == products - 2
    check(after)
    assert difference(before, after, tokens()) <= EXACT


def test_a_bias_of_one_number_is_spread_first() -> None:
    biases = "    qb = Add (q, one)\n    kb = Add (gamma, k)\n    ib = Add (i, bi)\n    w = MatMul (ib, wf)\n"
    before, after = (graph_of([THREE, biases], "y = Sum (qb, kb, w)") for _ in range(2))
    assert wide.apply(after.graph).times == 1
    assert (20,) in shapes(after)
    assert count(after, "Add") == 1
    check(after)
    assert difference(before, after, tokens()) <= EXACT


def test_biases_stay_where_one_product_has_none() -> None:
    text = [THREE, "    qb = Add (q, gamma)\n    w = MatMul (i, wf)\n"]
    before, after = (graph_of(text, "y = Sum (qb, k, w)") for _ in range(2))
    assert wide.apply(after.graph).times == 1
    assert count(after, "Add") == 1
    check(after)
    assert difference(before, after, tokens()) <= EXACT


def test_a_result_read_twice_keeps_its_bias_outside() -> None:
    text = [THREE, "    qb = Add (q, gamma)\n    kb = Add (k, beta)\n    ib = Add (i, bi)\n    w = MatMul (ib, wf)\n"]
    before, after = (graph_of(text, "y = Sum (qb, kb, w, q)") for _ in range(2))
    assert wide.apply(after.graph).times == 1
    assert count(after, "Add") == 3
    check(after)
    assert difference(before, after, tokens()) <= EXACT


def test_a_product_that_is_the_output_of_the_graph() -> None:
    outputs = "double[b, 5, 6] q, double[b, 5, 6] k"
    before, after = (graph_of(["    q = MatMul (x, wq)"], "k = MatMul (x, wk)", outputs=outputs) for _ in range(2))
    assert wide.apply(after.graph).times == 1
    assert [value.name for value in after.graph.outputs] == ["q", "k"]
    check(after)
    assert difference(before, after, tokens()) <= EXACT


@pytest.mark.parametrize(
    ("most", "times", "columns"), [(11, 0, {6, 8}), (12, 1, {12, 8}), (14, 1, {12, 8}), (20, 1, {20})]
)
def test_a_bound_on_the_width(most: int, times: int, columns: set[int]) -> None:
    text = [THREE, "    w = MatMul (i, wf)\n"]
    before, after = (graph_of(text, "y = Sum (q, k, w)") for _ in range(2))
    applied = wide.apply(after.graph, most_columns=most)
    assert applied.times == times
    assert {shape[1] for shape in shapes(after) if shape[0] == 6} == columns
    assert bool(applied.refusals) == (most < 20)
    check(after)
    assert difference(before, after, tokens()) <= EXACT


def test_products_of_different_inputs_stay() -> None:
    model = graph_of(["    r = Relu (x)\n    q = MatMul (x, wq)\n    k = MatMul (r, wk)\n"], "y = Add (q, k)")
    nodes = [node.name for node in model.graph]
    assert wide.apply(model.graph).times == 0
    assert [node.name for node in model.graph] == nodes
