"""Opset 23 becomes opset 20, with written-out attention."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from paraexport.graph.refusal import Applied
from paraexport.rewrite.passes import lower, stack
from tests.rewrite.exact import EXACT, difference
from tests.rewrite.graphs import SMALL, count, graph64, images, traced
from tests.rewrite.small_graphs import branch, branches, graph_of, tokens


def lowered(model: ir.Model) -> Applied:
    applied = lower.apply(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    assert not applied.times or [entry.version for entry in proto.opset_import] == [20]
    return applied


@pytest.mark.parametrize("fields", [{}, {"branches": 2}], ids=str)
def test_a_traced_model(fields: dict[str, Any]) -> None:
    before, after = graph64(**fields), graph64(**fields)
    applied = lowered(after)
    attentions = count(before, "Attention")
    assert (applied.times, applied.refusals) == (attentions, [])
    assert count(after, "Attention") == 0
    assert count(after, "Softmax") == attentions
    assert count(after, "Mul") == count(before, "Mul"), "the scale is in the weights"
    for batch in (1, 7):
        assert difference(before, after, images(batch=batch)) <= EXACT


def test_in_float32_on_onnxruntime() -> None:
    proto = traced(SMALL)
    after = ir.from_proto(proto)
    lowered(after)
    inputs = {"images": images(batch=7).astype(np.float32)}
    expected, got = (
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)[0]
        for model in (proto, ir.to_proto(after))
    )
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


def attention(text: str) -> list[str]:
    return [branch(0, ("Attention (qt_L, kt_L, vt_L)", text))]


END = "y = Identity (y_0)"


@pytest.mark.parametrize("scale", [0.25, 1.0])
def test_a_scale_of_its_own(scale: float) -> None:
    text = f"Attention <scale = {scale}> (qt_L, kt_L, vt_L)"
    before, after = (graph_of(attention(text), END) for _ in range(2))
    assert lowered(after).times == 1
    assert difference(before, after, tokens()) <= EXACT


@pytest.mark.parametrize(("computed", "factors"), [("", 0), ("q", 0), ("k", 0), ("qk", 1)])
def test_the_scale_goes_into_the_weights_of_the_query_or_the_key(computed: str, factors: int) -> None:
    text = branch(0)
    for head in computed:
        text = text.replace(f"<perm = [0, 2, 1, 3]> ({head}h_0)", f"<perm = [0, 2, 1, 3]> ({head}a_0)")
        text = text.replace("    qt_0 =", f"    {head}a_0 = Relu ({head}h_0)\n    qt_0 =")
    before, after = (graph_of([text], END) for _ in range(2))
    assert lowered(after).times == 1
    assert count(after, "Mul") == factors
    assert difference(before, after, tokens()) <= EXACT


def test_a_weight_that_two_queries_share_is_scaled_once_each() -> None:
    tied = [branch(index, ("wq_L", "wq_9")) for index in range(2)]
    before, after = graph_of(tied), graph_of(tied)
    assert lowered(after).times == 2
    assert difference(before, after, tokens()) <= EXACT


REFUSED = {
    "causal": ("Attention <is_causal = 1> (qt_L, kt_L, vt_L)", "is_causal"),
    "softcap": ("Attention <softcap = 2.0> (qt_L, kt_L, vt_L)", "softcap"),
    "mask": ("Attention (qt_L, kt_L, vt_L, mask)", "a mask"),
    "softmax": ("Attention <softmax_precision = 1> (qt_L, kt_L, vt_L)", "another precision"),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_attention_that_does_more_is_refused(text: str, reason: str) -> None:
    mask = "    flat = Constant <value_floats = [0.0, 0.0, 0.0, 0.0, -1.0]> ()\n    mask5 = Cast <to = 11> (flat)\n"
    mask += "    sizes = Constant <value_ints = [5, 5]> ()\n    mask = Expand (mask5, sizes)\n"
    model = graph_of([*([mask] if "mask" in text else []), *attention(text)], END)
    nodes = [node.name for node in model.graph]
    applied = lowered(model)
    assert applied.times == 0
    assert len(applied.refusals) == 1
    assert applied.refusals[0].startswith("branches.0/mixed: ")
    assert reason in applied.refusals[0]
    assert [node.name for node in model.graph] == nodes
    assert model.opset_imports[""] == 23


def test_an_operator_newer_than_opset_20_is_refused_and_the_graph_stays_whole() -> None:
    change = ("norm_L = LayerNormalization <axis = -1, epsilon = 0.00001> (skip_L, delta_L, zeta_L)",
              "norm_L = RMSNormalization (skip_L, delta_L)")  # fmt: skip
    model = graph_of([branch(0, change)], END)
    applied = lowered(model)
    assert (applied.times, applied.refusals) == (0, ["branches.0/norm: RMSNormalization is newer than opset 20"])
    assert count(model, "Attention") == 1
    assert model.opset_imports[""] == 23


def test_an_operator_that_meant_something_else_is_refused() -> None:
    norm = "    z = GroupNormalization <num_groups = 1> (x, s5, z5)\n"
    ones = "    o5 = Constant <value_floats = [1.0, 1.0, 1.0, 1.0, 1.0]> ()\n"
    casts = "    s5 = Cast <to = 11> (o5)\n    z5 = Cast <to = 11> (o5)\n"
    model = graph_of([ones, casts, norm], "y = Identity (z)")
    applied = lowered(model)
    assert "another meaning at opset 20" in applied.refusals[0]


def test_an_older_graph_is_refused() -> None:
    model = graph_of(["    a = Relu (x)"], "y = Identity (a)", opset=18)
    assert lower.apply(model).refusals == ["small: its opset is 18, which is older than 20"]
    assert model.opset_imports[""] == 18


def test_stacked_heads_and_samples_are_lowered_too() -> None:
    before, after = graph_of(branches(3)), graph_of(branches(3))
    stack.apply(after.graph)
    assert lowered(after).times == 1
    assert difference(before, after, tokens()) <= EXACT
