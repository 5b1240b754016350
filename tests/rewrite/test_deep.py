"""The products of a sum become one product."""

from typing import Any

import onnx
import onnx_ir as ir
import pytest

from paraexport.rewrite.passes import deep
from tests.rewrite.exact import EXACT, difference
from tests.rewrite.graphs import count, graph64, images
from tests.rewrite.small_graphs import branch, branches, graph_of, summed, tokens


def check(model: ir.Model) -> None:
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


@pytest.mark.parametrize(
    "fields", [{}, {"branches": 2}, {"residual": "input", "depth": 1, "branches": 5, "pool": "mean"}], ids=str
)
def test_the_last_products_of_all_branches_are_one(fields: dict[str, Any]) -> None:
    before, after = graph64(**fields), graph64(**fields)
    applied = deep.apply(after.graph)
    assert (applied.times, applied.refusals) == (1, [])
    assert count(after, "MatMul") == count(before, "MatMul") - fields.get("branches", 3) + 1
    assert any((node.name or "").startswith("branches.*/") for node in after.graph)
    check(after)
    for batch in (1, 7):
        assert difference(before, after, images(batch=batch)) <= EXACT


def test_a_branch_that_ends_in_a_norm_has_no_product_to_merge() -> None:
    model = graph64(residual="post", depth=1, branches=2, qkv_bias=False, layer_scale=True, activation="relu")
    nodes = [node.name for node in model.graph]
    assert deep.apply(model.graph).times == 0
    assert [node.name for node in model.graph] == nodes


def test_biases_are_summed_and_other_terms_stay() -> None:
    before = graph_of(branches(3))
    after = graph_of(branches(3))
    assert deep.apply(after.graph).times == 1
    (last,) = (node for node in after.graph if any(value.is_graph_output() for value in node.outputs))
    assert [value.name for value in last.inputs[:3] if value] == ["skip_0", "skip_1", "skip_2"]
    assert count(after, "Concat") == 1
    check(after)
    assert difference(before, after, tokens()) <= EXACT


@pytest.mark.parametrize("total", ["z = Add (y_0, y_1)\n y = Add (z, y_2)", "z = Add (y_1, y_2)\n y = Sum (y_0, z)"])
def test_a_tree_of_adds(total: str) -> None:
    before, after = graph_of(branches(3), total), graph_of(branches(3), total)
    assert deep.apply(after.graph).times == 1
    check(after)
    assert difference(before, after, tokens()) <= EXACT


def test_an_odd_branch_takes_part() -> None:
    shared_bias, no_bias = ("bf_L", "bf_0"), ("Add (skip_L, fb_L)", "Add (skip_L, f_L)")
    odd = [branch(0), branch(1, ("Gelu", "Relu"), shared_bias), branch(2, no_bias)]
    before, after = graph_of(odd), graph_of(odd)
    assert deep.apply(after.graph).times == 1
    assert count(after, "Concat") == 1
    check(after)
    assert difference(before, after, tokens()) <= EXACT


def test_products_of_one_input_need_no_longer_one() -> None:
    text = "    p_0 = MatMul (x, wq_0)\n    p_1 = MatMul (x, wq_1)\n    p_2 = MatMul (r, wq_1)\n    r = Relu (x)\n"
    lines = text.splitlines(keepends=True)
    total = "y = Sum (p_0, p_1, p_2)"
    before, after = (graph_of([lines[3], *lines[:3]], total) for _ in range(2))
    assert deep.apply(after.graph).times == 1
    shapes = [tuple(value.const_value.shape) for value in after.graph.initializers.values() if value.const_value]
    assert shapes == [(12, 6)]
    check(after)
    assert difference(before, after, tokens()) <= EXACT


def test_a_product_that_is_read_elsewhere_stays() -> None:
    outputs = "double[b, 5, 6] y, double[b, 5, 6] f_1"
    before, after = (graph_of(branches(3), summed(3), outputs=outputs) for _ in range(2))
    applied = deep.apply(after.graph)
    assert applied.times == 1
    assert applied.refusals == ["branches.1/f: its result has other readers too"]
    check(after)
    assert difference(before, after, tokens()) <= EXACT


def test_a_product_that_is_broadcast_stays() -> None:
    text = "    m = ReduceMean <keepdims = 1> (x, axis1)\n    p_0 = MatMul (m, wq_0)\n    p_1 = MatMul (x, wq_1)\n"
    model = graph_of([text], "y = Add (p_0, p_1)")
    nodes = [node.name for node in model.graph]
    assert deep.apply(model.graph).times == 0
    assert [node.name for node in model.graph] == nodes
