"""Q/DQ in a graph, against the same arithmetic in NumPy float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from onnx import numpy_helper

from paraexport.graph.onnx_file import save
from paraexport.precision.calibration.calibrators import Scale, scale_for
from paraexport.precision.int8.linears import linears
from paraexport.precision.int8.quantise import apply, column_scales
from paraexport.targets.ort.probe import open_probe

Reals = NDArray[np.float32]
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((3, 4, 6)).astype(np.float32)
W, V, U = (RANDOM.standard_normal(shape).astype(np.float32) for shape in ((6, 5), (6, 5), (5, 2)))
TWO = "p = MatMul (x, w) q = MatMul (x, v) r = Mul (p, q) y = MatMul (r, u)"


def graph(text: str = TWO, sizes: str = "3, 4, 6", **weights: Reals) -> ir.Model:
    proto = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 20]> g (float[{sizes}] x) => (float[a, b, c] y) {{ {text} }}'
    )
    used = {name: value for name, value in {"w": W, "v": V, "u": U, **weights}.items() if f" {name})" in text}
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in used.items())
    for node in proto.graph.node:
        node.name = node.output[0]
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))


def quantised(model: ir.Model, scales: dict[str, Scale]) -> onnx.ModelProto:
    products = linears(model.graph)
    assert apply(model.graph, products, scales).times == len(products)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def run(proto: onnx.ModelProto, x: Reals = X, *, optimised: bool = False) -> Reals:
    return np.asarray(open_probe(ir.from_proto(proto), [proto.graph.output[0].name], optimised=optimised)(x)[0])


def through_integers(values: NDArray[Any], scale: Scale) -> NDArray[np.float64]:
    """ONNX's QuantizeLinear and DequantizeLinear; the division is one in float32."""
    kind = np.iinfo(np.int8 if scale.signed else np.uint8)
    steps = np.rint(values.astype(np.float32) / np.float32(scale.scale)) + scale.zero_point
    return (np.clip(steps, kind.min, kind.max).astype(np.float64) - scale.zero_point) * scale.scale


def weight_through_integers(weight: Reals) -> NDArray[np.float64]:
    """Symmetric, one scale for each of the last axis."""
    flat = weight.reshape(-1, weight.shape[-1])
    columns = []
    for column in flat.T:
        step = np.float32(np.abs(column).max() / 127)
        columns.append(np.rint(column / step).astype(np.float64) * step if step else np.zeros(len(column)))
    return np.stack(columns, -1).reshape(weight.shape)


def expected(scales: dict[str, Scale], w: Reals = W, v: Reals = V, u: Reals = U) -> NDArray[np.float64]:
    x = through_integers(X, scales["x"])
    r = (x @ weight_through_integers(w)) * (x @ weight_through_integers(v))
    return through_integers(r, scales["r"]) @ weight_through_integers(u)


def scales_of(*, signed: bool) -> dict[str, Scale]:
    return {"x": scale_for((float(X.min()), float(X.max())), signed=signed), "r": scale_for((-5, 7), signed=signed)}


@pytest.mark.parametrize("signed", [False, True])
def test_the_graph_computes_what_numpy_does(signed: bool) -> None:
    scales = scales_of(signed=signed)
    got, wanted = run(quantised(graph(), scales)), expected(scales)
    # One integer of r may round the other way, where float32 and float64 lie on two sides of a half.
    assert np.abs(got - wanted).max() <= 1.01 * scales["r"].scale * np.abs(U).max()
    assert np.mean(np.abs(got - wanted) > 1e-5) <= 0.02
    assert np.abs(wanted - ((X @ W) * (X @ V)) @ U).max() > 1e-3, "and it is not the float32 graph"


@pytest.mark.parametrize("signed", [False, True])
def test_optimised_by_onnxruntime_it_stays_the_same(signed: bool) -> None:
    proto = quantised(graph(), scales_of(signed=signed))
    assert np.abs(run(proto, optimised=True) - run(proto)).max() <= 1.01 * 12 / 255 * np.abs(U).max()


def test_weights_are_stored_as_integers_with_a_scale_a_column() -> None:
    proto = quantised(graph(), scales_of(signed=True))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for name, weight in {"w": W, "v": V, "u": U}.items():
        assert name not in stored, "the float32 weight is gone"
        integers, steps = stored[f"{name}/int8"], stored[f"{name}/scale"]
        assert integers.dtype == np.int8
        assert np.abs(integers.astype(int)).max(0).tolist() == [127] * weight.shape[1]
        np.testing.assert_array_equal(steps, np.abs(weight).max(0) / np.float32(127))
        assert np.abs(integers * steps - weight).max() <= 0.5001 * steps.max()


def test_a_value_that_several_products_read_is_quantised_once() -> None:
    proto = quantised(graph(), scales_of(signed=True))
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds.count("QuantizeLinear") == 2
    assert kinds.count("DequantizeLinear") == 2 + 3
    assert len({node.name for node in proto.graph.node}) == len(proto.graph.node)


def test_a_weight_that_several_products_read_is_stored_once() -> None:
    proto = quantised(graph("p = MatMul (x, w) z = Neg (x) q = MatMul (z, w) y = Add (p, q)"), {
        "x": scale_for((-3, 3), signed=True), "z": scale_for((-3, 3), signed=True),
    })  # fmt: skip
    assert (
        sum(tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2 for tensor in proto.graph.initializer)
        == 1
    )
    assert np.abs(run(proto)).max() <= 1e-6, "x W - x W"


@pytest.mark.parametrize("signed", [False, True])
def test_weights_of_stacked_branches(signed: bool) -> None:
    weight = RANDOM.standard_normal((3, 6, 5)).astype(np.float32)
    scale = scale_for((-2.5, 2), signed=signed)
    proto = quantised(graph("y = MatMul (x, w)", w=weight), {"x": scale})
    wanted = through_integers(X, scale) @ weight_through_integers(weight)
    np.testing.assert_allclose(run(proto), wanted, atol=1e-5)
    np.testing.assert_allclose(run(proto, optimised=True), wanted, atol=1e-5)
    (steps,) = (numpy_helper.to_array(t) for t in proto.graph.initializer if t.name == "w/scale")
    np.testing.assert_array_equal(steps, np.abs(weight).max((0, 1)) / np.float32(127))


@given(
    arrays.arrays(np.float32, (4, 3), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    st.lists(st.sampled_from(["", "zero", "denormal", "one number"]), min_size=3, max_size=3),
)
@settings(max_examples=100, deadline=None)
def test_no_column_is_lost_whatever_is_in_it(weight: Reals, columns: list[str]) -> None:
    for index, kind in enumerate(columns):
        if kind == "zero":
            weight[:, index] = 0
        if kind == "denormal":
            weight[:, index] = [1e-45, -1e-44, 0, 3e-45]
        if kind == "one number":
            weight[:, index] = [0, 0, -(2.0**90), 0]
    steps = column_scales(weight)
    assert steps.dtype == np.float32
    assert (np.isfinite(steps) & (steps > 0)).all()
    for column, step in zip(weight.T.astype(np.float64), steps.astype(np.float64), strict=True):
        largest = np.abs(column).max()
        assert largest <= 127.5 * step or step < 2.0**-126
        if largest >= 2.0**-100:
            assert step == pytest.approx(largest / 127, rel=1e-6)


def test_columns_of_zeros_and_of_denormals_answer_zero() -> None:
    weight = W.copy()
    weight[:, 1], weight[:, 3] = 0, 1e-45
    scale = scale_for((-2.5, 2), signed=False)
    proto = quantised(graph("y = MatMul (x, w)", w=weight), {"x": scale})
    got = run(proto)
    np.testing.assert_allclose(got, through_integers(X, scale) @ weight_through_integers(weight), atol=1e-5)
    assert not got[..., [1, 3]].any()


def test_the_same_bytes_each_time(tmp_path: Any) -> None:
    written = []
    for number in range(2):
        model = graph()
        apply(model.graph, linears(model.graph), scales_of(signed=False))
        save(model, tmp_path / f"{number}.onnx")
        written.append((tmp_path / f"{number}.onnx").read_bytes())
    assert written[0] == written[1]


def test_only_the_products_that_were_asked_for() -> None:
    model = graph()
    (first, *_) = linears(model.graph)
    assert apply(model.graph, [first], scales_of(signed=True)).times == 1
    names = {tensor.name for tensor in ir.to_proto(model).graph.initializer}
    assert {"v", "u", "w/int8"} <= names
    assert "w" not in names
