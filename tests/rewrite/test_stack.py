"""Stacked branches compute the same numbers. The number of nodes does not depend on the number of branches."""

import copy
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from paraexport.graph.query import const
from paraexport.graph.refusal import Applied
from paraexport.graph.shapes import dims
from paraexport.model.spec import Spec
from paraexport.rewrite.passes import (
    biases,
    lower,
    norms,
    offsets,
    pool,
    scales,
    select,
    stack,
    tidy,
)
from tests.rewrite.exact import EXACT, difference, run
from tests.rewrite.graphs import SMALL, count, graph64, images, traced
from tests.rewrite.small_graphs import branch, branches, graph_of, summed, tokens

SPECS: dict[str, dict[str, Any]] = {
    "normalized": {},
    "two branches": {"branches": 2},
    "five branches": {"branches": 5},
    "input, one layer": {"residual": "input", "depth": 1, "branches": 5, "pool": "mean"},
    "post, scaled": {
        "residual": "post", "depth": 1, "branches": 2, "qkv_bias": False, "layer_scale": True, "activation": "relu",
    },
}  # fmt: skip


def check(model: ir.Model) -> None:
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def applied_to(model: ir.Model, **options: Any) -> tuple[ir.Model, Applied]:
    """A checked, stacked copy of the model, and the report."""
    after = copy_of(model)
    applied = stack.apply(after.graph, **options)
    check(after)
    return after, applied


def copy_of(model: ir.Model) -> ir.Model:
    return ir.from_proto(copy.deepcopy(ir.to_proto(model)))


def assert_refused(model: ir.Model, node: str, reason: str, **options: Any) -> None:
    """Check that nothing is stacked or changed, and that the refusal names the node and the reason."""
    after, applied = applied_to(model, **options)
    assert applied.times == 0
    assert [node.name for node in after.graph] == [node.name for node in model.graph]
    assert set(after.graph.initializers) == set(model.graph.initializers)
    assert any(line.startswith(f"{node}: ") and reason in line for line in applied.refusals), applied.refusals


def assert_products_are_plain_or_batched(model: ir.Model, branches: int) -> None:
    """OpenVINO rejects [N, K] and [1, N, K] by a constant [L, K, J]."""
    for node in model.graph:
        weight = const(node.inputs[1]) if node.op_type == "MatMul" else None
        if weight is not None and weight.ndim != 2:
            assert node.inputs[0] is not None
            assert (dims(node.inputs[0]) or ())[0] == branches == weight.shape[0]


@pytest.mark.parametrize("fields", SPECS.values(), ids=SPECS)
def test_a_traced_model(fields: dict[str, Any]) -> None:
    before = graph64(**fields)
    after, applied = applied_to(before)
    assert (applied.times, applied.refusals) == (1, [])
    depth = {**vars(SMALL), **fields}["depth"]
    assert count(after, "Attention") == depth
    assert_products_are_plain_or_batched(after, branches=fields.get("branches", SMALL.branches))
    for batch in (1, 7):
        assert difference(before, after, images(batch=batch)) <= EXACT


@pytest.mark.parametrize("fields", SPECS.values(), ids=SPECS)
def test_in_float32_on_onnxruntime(fields: dict[str, Any]) -> None:
    proto = traced(Spec(**{**vars(SMALL), **fields}))
    after, _ = applied_to(ir.from_proto(proto))
    assert all(value.dtype != ir.DataType.DOUBLE for value in after.graph.initializers.values())
    inputs = {"images": images(batch=7).astype(np.float32)}
    expected, got = (
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)[0]
        for model in (proto, ir.to_proto(after))
    )
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


def test_as_many_nodes_for_two_branches_as_for_five() -> None:
    (two, _), (five, _) = applied_to(graph64(branches=2)), applied_to(graph64(branches=5))
    assert [node.op_type for node in two.graph] == [node.op_type for node in five.graph]


def test_as_many_nodes_for_any_number_of_branches() -> None:
    feed_forward = """
    h_L = MatMul (x, wi_L)
    hb_L = Add (h_L, bi_L)
    act_L = Gelu (hb_L)
    f_L = MatMul (act_L, wf_L)
    fb_L = Add (f_L, bf_L)
    y_L = Add (x, fb_L)"""
    sequences = []
    for number in range(2, 65):
        model = graph_of([feed_forward.replace("_L", f"_{index}") for index in range(number)])
        assert stack.apply(model.graph).times == 1
        sequences.append([node.op_type for node in model.graph])
    assert all(sequence == sequences[0] for sequence in sequences)
    attention = [graph_of(branches(number)) for number in (2, 64)]
    assert all(stack.apply(model.graph).times == 1 for model in attention)
    assert [node.op_type for node in attention[0].graph] == [node.op_type for node in attention[1].graph]


def test_more_memory_than_the_limit_is_refused_and_nothing_changes() -> None:
    model = graph64()
    before = ir.to_proto(model).SerializeToString()
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    refused = stack.apply(model.graph, most_bytes=weights // 2)
    assert refused.times == 0
    assert any(f"more than the limit of {weights // 2} bytes" in line for line in refused.refusals)
    assert ir.to_proto(model).SerializeToString() == before
    assert stack.apply(model.graph, most_bytes=2 * weights).times == 1


@pytest.mark.parametrize("number", [2, 3, 64])
def test_a_small_graph(number: int) -> None:
    before = graph_of(branches(number))
    after, applied = applied_to(before)
    assert applied.times == 1
    for batch in (1, 7):
        assert difference(before, after, tokens(batch)) <= EXACT


def test_new_nodes_are_named_after_all_branches_and_the_sum_keeps_its_name() -> None:
    after, _ = applied_to(graph64())
    names = {node.name for node in after.graph}
    assert "branches.*/layers.0/attention/query/MatMul" in names
    assert "branches.*/layers.1/feed_forward/fc2/MatMul" in names
    assert not any(name and name.startswith("branches.0/") for name in names)
    assert "sum" in {value.name for node in after.graph for value in node.outputs}
    assert all(".before" not in (value.name or "") for node in after.graph for value in node.outputs)


def test_the_first_products_are_batched_and_the_last_is_deep() -> None:
    text = [branch(index, ("LayerNormalization <axis = -1, epsilon = 0.00001> (x, gamma_L, beta_L)", "Identity (x)"))
            for index in range(3)]  # fmt: skip
    before = graph_of(text)
    after, _ = applied_to(before)
    shapes = [value.const_value.shape for value in after.graph.initializers.values() if value.const_value]
    assert {(3, 6, 6), (24, 6), (3, 6, 8)} <= {tuple(shape) for shape in shapes}
    assert difference(before, after, tokens()) <= EXACT


@pytest.mark.parametrize(
    "total",
    [
        "y01 = Add (y_0, y_1)\n y012 = Add (y01, y_2)\n y = Add (y012, y_3)",
        "y01 = Add (y_0, y_1)\n y23 = Add (y_2, y_3)\n y = Add (y01, y23)",
        "y01 = Add (y_0, y_1)\n y = Sum (y01, y_2, y_3)",
        "u0 = Unsqueeze (y_0, axis1)\n u1 = Unsqueeze (y_1, axis1)\n u2 = Unsqueeze (y_2, axis1)\n"
        "u3 = Unsqueeze (y_3, axis1)\n c = Concat <axis = 1> (u0, u1, u2, u3)\n"
        "y = ReduceSum <keepdims = 0> (c, axis1)",
    ],
    ids=["chain", "balanced tree", "mixed", "stacked and reduced"],
)
def test_however_the_branches_are_added_up(total: str) -> None:
    before = graph_of(branches(4), total)
    after, applied = applied_to(before)
    assert applied.times == 1
    assert count(after, "Attention") == 1
    assert difference(before, after, tokens()) <= EXACT


@pytest.mark.parametrize("total", ["", "a = Add (y_0, y_1)\n y = Add (a, y_2)"], ids=["sum", "chain"])
def test_an_odd_branch_stays_beside_the_others(total: str) -> None:
    before = graph_of([branch(0), branch(1, ("Gelu", "Relu")), branch(2)], total)
    after, applied = applied_to(before)
    assert applied.times == 1
    assert applied.refusals == [
        "branches.1/act: its operator is Relu, but that of branches.0/act in another branch is Gelu"
    ]
    assert count(after, "Attention") == 2
    assert difference(before, after, tokens()) <= EXACT


def test_two_kinds_of_branches_are_two_stacks() -> None:
    before = graph_of([branch(index, ("Gelu", "Gelu" if index % 2 else "Relu")) for index in range(5)])
    after, applied = applied_to(before)
    assert (applied.times, applied.refusals) == (2, [])
    assert difference(before, after, tokens()) <= EXACT


@pytest.mark.parametrize("tied", [("wq_L", "wf_L"), ("gamma_L", "beta_L"), ("delta_L",), ("wo_L", "bf_L", "bi_L")])
def test_weights_tied_between_branches(tied: tuple[str, ...]) -> None:
    before = graph_of([branch(index, *((name, name.replace("_L", "_9")) for name in tied)) for index in range(3)])
    after, applied = applied_to(before)
    assert applied.times == 1
    assert difference(before, after, tokens()) <= EXACT


def test_weights_tied_between_some_of_the_branches() -> None:
    before = graph_of([branch(0), branch(1, ("wi_L", "wi_0"), ("gamma_L", "gamma_0")), branch(2)])
    after, applied = applied_to(before)
    assert applied.times == 1
    assert difference(before, after, tokens()) <= EXACT


def test_a_gate_that_all_branches_share_and_a_scale_each() -> None:
    gate = "    gate = Sigmoid (mean)\n    mean = ReduceMean <keepdims = 1> (x, axis1)\n"
    lines = gate.splitlines(keepends=True)[::-1]
    gated = ("act_L = Gelu (hb_L)", "act_L = Gelu (hb_L)\n    g_L = Mul (gate, s_L)\n    gn_L = Mul (norm_L, g_L)")
    texts = [branch(index, gated, ("Add (skip_L, fb_L)", "Add (gn_L, fb_L)")) for index in range(3)]
    before = graph_of(["".join(lines), *texts], summed(3))
    after, applied = applied_to(before)
    assert (applied.times, applied.refusals) == (1, [])
    assert difference(before, after, tokens()) <= EXACT


DIFFERENT = {
    "epsilon": (("0.00001> (skip_L", "0.0001> (skip_L"), "branches.1/norm", "epsilon is"),
    "operator": (("y_L = Add (skip_L, fb_L)", "y_L = Sub (skip_L, fb_L)"), "branches.1/y", "its operator is Sub, but"),
    "activation": (("act_L = Gelu (hb_L)", "act_L = Relu (hb_L)"), "branches.1/act", "its operator is Relu, but"),
    "random": (
        ("act_L = Gelu (hb_L)", "noise_L = RandomNormalLike (hb_L)\n    act_L = Mul (hb_L, noise_L)"),
        "branches.1/act", "its operator is Mul, but",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "node", "reason"), DIFFERENT.values(), ids=DIFFERENT)
def test_branches_that_only_look_alike_are_refused(change: tuple[str, str], node: str, reason: str) -> None:
    assert_refused(graph_of([branch(0), branch(1, change)]), node, reason)


def test_branches_of_another_hidden_size_are_refused() -> None:
    narrow = (("(norm_L, wi_L)", "(norm_L, wq_L)"), ("(h_L, bi_L)", "(h_L, bf_L)"), ("(act_L, wf_L)", "(act_L, wo_L)"))
    reason = "reads a constant float64 [6, 6], but another branch reads a constant float64 [6, 8]"
    assert_refused(graph_of([branch(0), branch(1, *narrow)]), "branches.1/h", reason)


def test_swapped_operands_of_a_subtraction_are_refused() -> None:
    one, other = ("Add (skip_L, fb_L)", "Sub (skip_L, fb_L)"), ("Add (skip_L, fb_L)", "Sub (fb_L, skip_L)")
    assert_refused(graph_of([branch(0, one), branch(1, other)]), "branches.1/fb", "reads f_1 ")


@pytest.mark.parametrize(
    "noise", ["r_L = RandomNormalLike (hb_L)", "r_L, m_L = Dropout (hb_L, half, training)"], ids=["normal", "dropout"]
)
def test_random_numbers_are_refused(noise: str) -> None:
    change = ("act_L = Gelu (hb_L)", f"{noise}\n    act_L = Gelu (r_L)")
    constants = "    half = Constant <value_float = 0.5> ()\n    training = Constant <value_int = 1> ()\n"
    if "Dropout" in noise:
        constants = constants.replace("training = Constant", "one = Constant") + "    training = Cast <to = 9> (one)\n"
        model = graph_of([constants, branch(0, change), branch(1, change)], summed(2))
    else:
        model = graph_of([branch(0, change), branch(1, change)])
    assert_refused(model, "branches.1/r", "draws random numbers")


def test_a_result_that_is_read_outside_its_branch_is_refused() -> None:
    outputs = "double[b, 5, 6] y, double[b, 5, 6] tap"
    model = graph_of(branches(2), f"{summed(2)}\n    tap = Relu (norm_1)", outputs=outputs)
    assert_refused(model, "branches.1/norm", "is also read outside of the branch")


def test_a_branch_that_is_read_outside_stays_beside_the_others() -> None:
    outputs = "double[b, 5, 6] y, double[b, 5, 8] act_1"
    before = graph_of(branches(3), outputs=outputs)
    after, applied = applied_to(before)
    assert applied.times == 1
    assert applied.refusals[0].startswith("branches.1/act: its result is also read outside of the branch")
    assert count(after, "Attention") == 2
    assert difference(before, after, tokens()) <= EXACT


def test_an_operator_without_a_rule_is_refused() -> None:
    change = ("act_L = Gelu (hb_L)", "act_L = CumSum (hb_L, axis1)")
    assert_refused(
        graph_of([branch(0, change), branch(1, change)]),
        "branches.0/act",
        "CumSum cannot be stacked",
    )


def test_an_operator_along_the_batch_is_refused() -> None:
    change = ("act_L = Gelu (hb_L)", "act_L = Softmax <axis = 0> (hb_L)")
    assert_refused(graph_of([branch(0, change), branch(1, change)]), "branches.0/act", "the first axis")


def test_a_branch_that_chooses_its_way_is_refused() -> None:
    choice = """flag = Constant <value_int = 1> ()
    condition = Cast <to = 9> (flag)
    """
    body = "act_L = If (condition) <then_branch = t () => (double[b, 5, 8] p_L) { p_L = Gelu (hb_L) }, "
    body += "else_branch = e () => (double[b, 5, 8] n_L) { n_L = Relu (hb_L) }>"
    change = ("act_L = Gelu (hb_L)", body)
    model = graph_of([choice, branch(0, change), branch(1, change)], summed(2))
    assert_refused(model, "branches.1/act", "holds a subgraph")


def test_more_weights_than_allowed_are_refused() -> None:
    assert_refused(graph_of(branches(3)), "branches.0/k", "the stacked weights need more than", most_bytes=2000)


def test_a_model_of_one_branch_has_nothing_to_stack() -> None:
    model = graph64(branches=1)
    nodes = [node.name for node in model.graph]
    applied = stack.apply(model.graph)
    assert (applied.times, applied.refusals) == (0, [])
    assert [node.name for node in model.graph] == nodes


def test_an_empty_batch() -> None:
    after, _ = applied_to(graph_of(branches(3)))
    assert run(after, tokens(0)).shape == (0, 5, 6)


def folded(**fields: Any) -> ir.Model:
    """The graph as `stack` gets it in its layout: norms split and folded, unread tokens removed."""
    model = graph64(**fields)
    norms.apply(model.graph, everywhere=True)
    for rewrite in (offsets, scales, biases, select, pool):
        rewrite.apply(model.graph)
    return model


@pytest.mark.parametrize("fields", SPECS.values(), ids=SPECS)
def test_a_folded_model(fields: dict[str, Any]) -> None:
    after, applied = applied_to(folded(**fields))
    assert (applied.times, applied.refusals) == (1, [])
    for batch in (1, 7):
        assert difference(graph64(**fields), after, images(batch=batch)) <= EXACT


def test_stacked_graphs_can_be_lowered_to_opset_20() -> None:
    sequences = []
    for number in (2, 5):
        model, _ = applied_to(folded(branches=number))
        tidy.apply(model.graph)
        assert lower.apply(model).refusals == []
        tidy.apply(model.graph)
        check(model)
        assert difference(graph64(branches=number), model, images(batch=7)) <= EXACT
        sequences.append([node.op_type for node in model.graph])
    assert sequences[0] == sequences[1]
