"""Costs of small graphs, counted by hand."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from paraexport.findings.costs import Cost, saved_share
from paraexport.graph.cost_report import graph_cost


def constant(name: str, *shape: int) -> ir.Value:
    return ir.Value(name=name, const_value=ir.tensor(np.zeros(shape, np.float32), name=name))


def two_branches() -> ir.Graph:
    """images [B, 4] -> stem [4, 6] -> two branches [6, 5] -> their sum -> head [5, 3]."""
    images = ir.Value(name="images", shape=ir.Shape(["batch", 4]), type=ir.TensorType(ir.DataType.FLOAT))
    weights = [
        constant("stem/weight", 4, 6), constant("branches.0/weight", 6, 5), constant("branches.1/weight", 6, 5),
        constant("head/weight", 5, 3),
    ]  # fmt: skip
    stem = ir.node("MatMul", [images, weights[0]], name="stem")
    branches = [ir.node("MatMul", [stem.outputs[0], weights[1 + k]], name=f"branches.{k}/product") for k in range(2)]
    total = ir.node("Sum", [node.outputs[0] for node in branches], name="sum")
    head = ir.node("MatMul", [total.outputs[0], weights[3]], name="head")
    return ir.Graph(
        [images], head.outputs, nodes=[stem, *branches, total, head], initializers=weights, opset_imports={"": 20}
    )


def test_parts_and_operators_have_the_costs_that_a_person_counts() -> None:
    found = graph_cost(two_branches())
    assert found.parts == (
        Cost("stem", 1, 4 * 6, 4 * 4 * 6), Cost("branch 0", 1, 6 * 5, 4 * 6 * 5), Cost("branch 1", 1, 6 * 5, 4 * 6 * 5),
        Cost("sum and head", 2, 5 * 3, 4 * 5 * 3),
    )  # fmt: skip
    assert found.operators == (Cost("MatMul", 4, 24 + 30 + 30 + 15, 4 * 99),)
    assert found.total == Cost("all", 5, 99, 4 * 99)


def test_a_saving_is_a_share_of_what_was_there() -> None:
    assert (saved_share(200, 150), saved_share(100, 110), saved_share(None, 1), saved_share(0, 0)) == (
        0.25, 1 - 1.1, None, None,
    )  # fmt: skip
