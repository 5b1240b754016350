"""ONNX Runtime's own operators give the same results as the standard ones that they replace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper

from paraexport.graph.refusal import Applied
from paraexport.precision.calibration.calibrators import scale_for
from paraexport.precision.int8 import for_onnxruntime, for_target
from paraexport.precision.int8.linears import linears
from paraexport.precision.int8.quantise import apply
from paraexport.precision.preparation import prepare
from paraexport.rewrite.passes import skips
from paraexport.targets import Dialect
from paraexport.targets.folder import Folder
from tests.precision.small import KINDS, LAYOUTS, calibration, on_runtime, relative, traced_file

ROUNDING = 2e-6
RANDOM = np.random.default_rng(0)
Arrays = dict[str, NDArray[Any]]


def parsed(text: str, sizes: str, **constants: NDArray[Any]) -> ir.Model:
    """float[sizes] x -> float y, opset 23, nodes named after their outputs."""
    header = f'<ir_version: 10, opset_import: ["" : 23]> g (float[{sizes}] x) => (float y)'
    proto = onnx.parser.parse_model(f"{header} {{ {text} }}")
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    for node in proto.graph.node:
        node.name = node.output[0]
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True))


def check(model: ir.Model) -> None:
    onnx.checker.check_model(ir.to_proto(model.clone()))


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def attention_graph(heads: int, size: int, value_size: int, tokens: int, node: str, *, queries: int = 0) -> ir.Model:
    """An attention in which only the first `queries` tokens are queries."""
    cut = "xq = Slice (x, zero, few, axes)" if queries else "xq = Identity (x)"
    text = f"""{cut} q0 = MatMul (xq, wq) k0 = MatMul (x, wk) v0 = MatMul (x, wv)
    q1 = Reshape (q0, qs) k1 = Reshape (k0, ks) v1 = Reshape (v0, vs)
    q = Transpose <perm = [0, 2, 1, 3]> (q1) k = Transpose <perm = [0, 2, 1, 3]> (k1)
    v = Transpose <perm = [0, 2, 1, 3]> (v1) {node} t = Transpose <perm = [0, 2, 1, 3]> (n) y = Reshape (t, flat)"""
    numbers = np.random.default_rng((heads, size, value_size, tokens))
    constants: Arrays = {
        "wq": numbers.standard_normal((6, heads * size)).astype(np.float32),
        "wk": numbers.standard_normal((6, heads * size)).astype(np.float32),
        "wv": numbers.standard_normal((6, heads * value_size)).astype(np.float32),
        "qs": np.array([-1, queries or tokens, heads, size]), "ks": np.array([-1, tokens, heads, size]),
        "vs": np.array([-1, tokens, heads, value_size]), "flat": np.array([-1, queries or tokens, heads * value_size]),
    }  # fmt: skip
    if queries:
        constants |= {"zero": np.array([0, 0]), "few": np.array([1000, queries]), "axes": np.array([0, 1])}
    return parsed(text, f"batch, {tokens}, 6", **constants)


SIZES = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(1, 6))


@given(SIZES, st.sampled_from([1, 2, 7]), st.sampled_from(["", "<scale = 1.0>", "<scale = 0.3>"]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_fused_attention_of_any_size(
    sizes: tuple[int, int, int, int], batch: int, scale: str, first_alone: bool
) -> None:
    heads, size, value_size, tokens = sizes
    node = f"n = Attention {scale} (q, k, v)"
    before = attention_graph(heads, size, value_size, tokens, node, queries=1 if first_alone else 0)
    after = before.clone()
    assert for_onnxruntime.attention(after.graph).times == 1
    assert "MultiHeadAttention" in kinds(after)
    check(after)
    x = np.random.default_rng(batch).standard_normal((batch, tokens, 6)).astype(np.float32)
    assert relative(on_runtime(after, x)[0], on_runtime(before, x)[0]) <= 10 * ROUNDING


REFUSED = {
    "a mask": ("n = Attention (q, k, v, m)", "mask"),
    "causal": ("n = Attention <is_causal = 1> (q, k, v)", "causal"),
    "a cap": ("n = Attention <softcap = 2.0> (q, k, v)", "it has softcap"),
    "no transpose": ("q9 = Neg (q) n = Attention (q9, k, v)", "not a Transpose of heads"),
}


@pytest.mark.parametrize(("node", "reason"), REFUSED.values(), ids=REFUSED)
def test_other_attention_is_refused_and_the_graph_stays_whole(node: str, reason: str) -> None:
    before = attention_graph(2, 3, 3, 4, node)
    if "m)" in node:
        before = attention_graph_with_mask(node)
    after = before.clone()
    applied = for_onnxruntime.attention(after.graph)
    assert_untouched(before, after, applied, reason)


def attention_graph_with_mask(node: str) -> ir.Model:
    model = attention_graph(2, 3, 3, 4, "n = Attention (q, k, v)")
    (attention,) = (one for one in model.graph if one.op_type == "Attention")
    mask = np.zeros((4, 4), np.float32)
    value = ir.Value(
        name="m", shape=ir.Shape((4, 4)), type=ir.TensorType(ir.DataType.FLOAT), const_value=ir.tensor(mask, name="m")
    )
    model.graph.register_initializer(value)
    attention.resize_inputs(4)
    attention.replace_input_with(3, value)
    return model


def assert_untouched(before: ir.Model, after: ir.Model, applied: Applied, reason: str) -> None:
    assert applied.times == 0
    assert any(reason in line for line in applied.refusals), applied.refusals
    assert [(n.name, n.op_type, [v and v.name for v in n.inputs]) for n in before.graph] == [
        (n.name, n.op_type, [v and v.name for v in n.inputs]) for n in after.graph
    ]


def test_heads_that_share_keys_are_refused() -> None:
    text = """q0 = MatMul (x, wq) k0 = MatMul (x, wk) v0 = MatMul (x, wk) q1 = Reshape (q0, qs) k1 = Reshape (k0, ks)
    v1 = Reshape (v0, ks) q = Transpose <perm = [0, 2, 1, 3]> (q1) k = Transpose <perm = [0, 2, 1, 3]> (k1)
    v = Transpose <perm = [0, 2, 1, 3]> (v1) n = Attention (q, k, v) y = Transpose <perm = [0, 2, 1, 3]> (n)"""
    model = parsed(
        text, "batch, 4, 6",
        wq=RANDOM.standard_normal((6, 12)).astype(np.float32), wk=RANDOM.standard_normal((6, 6)).astype(np.float32),
        qs=np.array([-1, 4, 4, 3]), ks=np.array([-1, 4, 2, 3]),
    )  # fmt: skip
    after = model.clone()
    assert_untouched(model, after, for_onnxruntime.attention(after.graph), "share one of keys")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
def test_a_whole_model_with_and_without_these_operators(fields: dict[str, Any], layout: str, tmp_path: Path) -> None:
    traced = traced_file(tmp_path, **fields)
    plain, own = (
        prepare(traced, layout, (), equalised=True, own_operators=own_operators) for own_operators in (False, True)
    )
    assert plain.products == own.products
    expected = on_runtime(ir.load(traced))[0]
    assert relative(on_runtime(plain.model)[0], expected) <= 1e-5
    assert relative(on_runtime(own.model)[0], expected) <= 1e-5
    scales = calibration(tmp_path).find_scales(plain.model, plain.activations, signed=False)
    # What is read is the same, but goes by another name behind a fused attention.
    names = dict(zip(own.activations, plain.activations, strict=True))
    for_target.quantise_products(plain.model.graph, scales)
    for_target.quantise_products(own.model.graph, {name: scales[same] for name, same in names.items()})
    assert for_onnxruntime.products(own.model.graph).times == len(plain.products)
    skips.apply(own.model.graph)
    check(own.model)
    assert "QuantizeLinear" in kinds(own.model)
    assert "DequantizeLinear" not in kinds(own.model), "nothing is left of what was fused"
    # A number near the middle of two integers may round either way, so that the answers differ by a few steps.
    assert relative(on_runtime(own.model)[0], on_runtime(plain.model)[0]) <= 0.02
    assert np.median(np.abs(on_runtime(own.model)[0] - on_runtime(plain.model)[0])) <= 0.003 * np.abs(expected).max()
    assert relative(on_runtime(own.model)[0], expected) > 1e-4, "and it is int8"


def product_graph(text: str, sizes: str = "batch, 4, 6", **constants: NDArray[Any]) -> tuple[ir.Model, ir.Model]:
    """The same in Q/DQ, and fused."""
    given: Arrays = {
        "w": RANDOM.standard_normal((6, 5)).astype(np.float32),
        "b": RANDOM.standard_normal(5).astype(np.float32),
    }
    given |= constants
    model = parsed(
        text, sizes, **{name: value for name, value in given.items() if f"{name})" in text or f"({name}," in text}
    )
    apply(
        model.graph,
        linears(model.graph),
        {"x": scale_for((-2, 2.5), signed=False), "h": scale_for((-4, 4), signed=False)},
    )
    after = model.clone()
    for_onnxruntime.products(after.graph)
    check(after)
    return model, after


BIASED = {
    "right": "h = MatMul (x, w) y = Add (h, b)",
    "left": "h = MatMul (x, w) y = Add (b, h)",
    "and on": "h = MatMul (x, w) g = Add (h, b) y = Relu (g)",
}


@pytest.mark.parametrize("text", BIASED.values(), ids=BIASED)
def test_the_bias_is_inside_the_product(text: str) -> None:
    before, after = product_graph(text)
    (node,) = (node for node in after.graph if node.op_type == "MatMulIntegerToFloat")
    assert node.domain == "com.microsoft"
    assert node.inputs[6] is not None
    assert node.inputs[6].name == "b"
    assert "Add" not in kinds(after)
    x = RANDOM.standard_normal((3, 4, 6)).astype(np.float32)
    assert relative(on_runtime(after, x)[0], on_runtime(before, x)[0]) <= ROUNDING
    assert [output.name for output in after.graph.outputs] == ["y"]
    assert node.name == "h", "it is found by the name of the product"


OUTSIDE = {
    "a number": ("h = MatMul (x, w) y = Add (h, c)", {"c": np.array([[0.5]], np.float32)}),
    "one a token": ("h = MatMul (x, w) y = Add (h, c)", {"c": RANDOM.standard_normal((4, 5)).astype(np.float32)}),
    "of stacked branches": (
        "h = MatMul (x, w) y = Add (h, c)",
        {name: RANDOM.standard_normal((3, size, 5)).astype(np.float32) for name, size in (("w", 6), ("c", 1))},
    ),
    "one for all stacked branches": (
        "h = MatMul (x, w) y = Add (h, b)", {"w": RANDOM.standard_normal((3, 6, 5)).astype(np.float32)}
    ),
    "read twice": ("h = MatMul (x, w) g = Add (h, b) y = Mul (g, h)", {}),
    "none": ("h = MatMul (x, w) y = Relu (h)", {}),
    "a skip": ("h = MatMul (x, w) g = MatMul (x, w) y = Add (h, g)", {}),
}  # fmt: skip


@pytest.mark.parametrize(("text", "constants"), OUTSIDE.values(), ids=OUTSIDE)
def test_what_is_no_bias_stays_outside(text: str, constants: Arrays) -> None:
    before, after = product_graph(text, "3, 4, 6", **constants)
    fused = [node for node in after.graph if node.op_type == "MatMulIntegerToFloat"]
    assert fused
    assert all(len(node.inputs) < 7 or node.inputs[6] is None for node in fused)
    x = RANDOM.standard_normal((3, 4, 6)).astype(np.float32)
    assert relative(on_runtime(after, x)[0], on_runtime(before, x)[0]) <= ROUNDING


@pytest.mark.parametrize(
    "text", ["y = MatMul (x, w)", "h = MatMul (x, w) y = Add (h, b)"], ids=["alone", "with a bias"]
)
def test_a_product_that_is_the_answer_keeps_the_name_of_the_output(text: str) -> None:
    before, after = product_graph(text)
    assert [output.name for output in after.graph.outputs] == [output.name for output in before.graph.outputs] == ["y"]


def test_products_of_two_activations_and_float32_ones_are_left_alone() -> None:
    model = parsed("t = Transpose <perm = [0, 2, 1]> (x) y = MatMul (x, t)", "batch, 4, 6")
    assert for_onnxruntime.products(model.graph).times == 0
    assert kinds(model) == ["Transpose", "MatMul"]


def test_onnxruntime_reads_back_the_bias_and_the_products(tmp_path: Path) -> None:
    """Also after its own optimisation."""
    from paraexport import targets
    from paraexport.graph.onnx_file import save

    prepared = prepare(traced_file(tmp_path), "folded", (), equalised=True, own_operators=True)
    model = for_target.quantise_for(prepared, Dialect(signed=False, own_operators=True), calibration(tmp_path))
    (tmp_path / "out").mkdir()
    save(model, tmp_path / "out" / "model.onnx")
    assert {*targets.get("onnxruntime").int8_products(Folder(tmp_path / "out"))} >= {*prepared.products}
    biased = [
        node
        for node in model.graph
        if node.op_type == "MatMulIntegerToFloat" and len(node.inputs) > 6 and node.inputs[6]
    ]
    assert len(biased) >= 2 * 3 * 2 - 3, "fc1 and fc2 of three branches of two layers, but for the last fc2"
