"""Nodes that move numbers back and forth, or compute them twice, are removed."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from paraexport.graph.refusal import Applied
from paraexport.rewrite.passes import lower, stack, tidy
from tests.rewrite.exact import EXACT, difference, run
from tests.rewrite.graphs import count, graph64, images
from tests.rewrite.small_graphs import branch, branches, graph_of, tokens


def tidied(model: ir.Model) -> Applied:
    applied = tidy.apply(model.graph)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    return applied


def test_a_stacked_and_lowered_model() -> None:
    before, after = graph64(), graph64()
    stack.apply(after.graph)
    lower.apply(after)
    nodes = len(after.graph)
    applied = tidied(after)
    assert applied.times == nodes - len(after.graph) > 0
    assert tidied(after).times == 0
    for batch in (1, 7):
        assert difference(before, after, images(batch=batch)) <= EXACT


MOVES = {
    "transposes that cancel": (
        "a = Transpose <perm = [2, 0, 1]> (x)\n b = Transpose <perm = [1, 2, 0]> (a)\n y = Relu (b)", ["Relu"],
    ),
    "transposes that do not": (
        "a = Transpose <perm = [1, 2, 0]> (x)\n b = Transpose <perm = [1, 2, 0]> (a)\n"
        "r = Relu (b)\n y = Transpose <perm = [1, 2, 0]> (r)", ["Transpose", "Relu", "Transpose"],
    ),
    "a transpose of nothing": ("a = Transpose <perm = [0, 1, 2]> (x)\n y = Relu (a)", ["Relu"]),
    "reshapes": ("a = Reshape (x, heads)\n b = Reshape (a, tokens)\n y = Relu (b)", ["Relu"]),
    "a reshape of nothing": ("a = Reshape (x, tokens)\n y = Relu (a)", ["Relu"]),
    "axes that come and go": ("a = Unsqueeze (x, axis1)\n b = Reshape (a, tokens)\n y = Relu (b)", ["Relu"]),
    "identities": ("a = Identity (x)\n b = Relu (a)\n y = Identity (b)", ["Relu"]),
    "an identity of the input": ("y = Identity (x)", ["Identity"]),
    "equal nodes": ("a = Relu (x)\n b = Relu (x)\n y = Add (a, b)", ["Relu", "Add"]),
    "nodes that nobody reads": ("a = Sigmoid (x)\n y = Relu (x)", ["Relu"]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "left"), MOVES.values(), ids=MOVES)
def test_moves(text: str, left: list[str]) -> None:
    before, after = graph_of([], text), graph_of([], text)
    tidied(after)
    assert [node.op_type for node in after.graph] == left
    assert [value.name for value in after.graph.outputs] == ["y"]
    assert difference(before, after, tokens()) == 0


def test_an_inner_result_that_others_read_stays() -> None:
    text = "a = Transpose <perm = [0, 2, 1]> (x)\n b = Transpose <perm = [0, 2, 1]> (a)\n c = MatMul (b, a)\n"
    text += "d = MatMul (c, x)\n y = Add (d, b)"
    before, after = graph_of([], text), graph_of([], text)
    tidied(after)
    assert count(after, "Transpose") == 1
    assert difference(before, after, tokens()) == 0


def test_two_outputs_of_one_value_keep_their_names() -> None:
    text, outputs = "z = Relu (x)\n y = Identity (z)", "double[b, 5, 6] y, double[b, 5, 6] z"
    model = graph_of([], text, outputs=outputs)
    tidied(model)
    assert [value.name for value in model.graph.outputs] == ["y", "z"]
    assert np.array_equal(run(model, tokens()), np.maximum(tokens(), 0))


def test_a_reshape_that_copies_a_size_stays() -> None:
    text = "c = Constant <value_ints = [0, 5, -1]> ()\n a = Reshape (x, heads)\n b = Reshape (a, c)\n y = Relu (b)"
    before, after = graph_of([], text), graph_of([], text)
    tidied(after)
    assert count(after, "Reshape") == 2
    assert difference(before, after, tokens()) == 0


def test_equal_initializers_become_one_and_equal_nodes_then_too() -> None:
    before, after = graph_of(branches(2)), graph_of(branches(2))
    for model in (before, after):
        first, second = (model.graph.initializers[name] for name in ("wq_0", "wk_0"))
        second.const_value = ir.tensor(first.const_value.numpy().copy(), name="wk_0") if first.const_value else None
    products = count(after, "MatMul")
    assert tidied(after).times >= 3
    assert count(after, "MatMul") == products - 1
    assert "wk_0" not in after.graph.initializers
    assert difference(before, after, tokens()) <= EXACT


def test_random_numbers_are_not_merged() -> None:
    text = "a = Bernoulli (p)\n b = Bernoulli (p)\n y = Add (a, b)"
    model = graph_of(["    p = Sigmoid (x)"], text)
    applied = tidied(model)
    assert count(model, "Bernoulli") == 2
    assert "draws random numbers" in applied.refusals[0]


def test_equal_weights_do_not_make_branches_one() -> None:
    """Stacking after tidying: merged initializers are stacked or shared, depending on their numbers."""
    tied = [branch(index, ("wi_L", "wi_9"), ("wq_L", "wq_9")) for index in range(3)]
    before, after = graph_of(tied), graph_of(tied)
    tidied(after)
    assert stack.apply(after.graph).times == 1
    tidied(after)
    assert difference(before, after, tokens()) <= EXACT
