"""Graphs for the tests of the affine passes: traced models of every kind, and small hand-written graphs."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from paraexport.graph.edit import clean
from paraexport.graph.refusal import Applied
from paraexport.model.spec import Spec
from tests.rewrite.exact import EXACT, difference
from tests.rewrite.graphs import SMALL, images, traced

MODELS: dict[str, dict[str, Any]] = {
    "normalized-cls": {},
    "input-mean": {
        "residual": "input", "qkv_bias": False, "layer_scale": True, "pool": "mean", "branches": 2, "depth": 1,
    },
    "post-cls": {"residual": "post", "branches": 2, "depth": 2, "layer_scale": True},
    "normalized-one-branch": {
        "branches": 1, "depth": 1, "qkv_bias": False, "pool": "patch_mean", "norm": "before", "activation": "relu",
    },
    "input-cls": {"residual": "input", "depth": 1, "patch_projection": "conv", "norm": "none"},
}  # fmt: skip
FLOAT32 = 1e-5
"""The limit of max |Δ| / max |value| in float32: about ten roundings of 6e-8 in a row, with some room."""


def small(text: str, **constants: NDArray[Any]) -> ir.Model:
    """The float64 graph `double[batch,4,6] x -> y` with the nodes in `text`, named after their first outputs."""
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 23]> g (double[batch,4,6] x) => (double[batch,4,5] y) {{ {text} }}'
    )
    read = {name for node in proto.graph.node for name in node.input}
    used = {name: array for name, array in constants.items() if name in read}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in used.items())
    for node in proto.graph.node:
        node.name = node.output[0]
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True))


def numbers(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


X = numbers(3, 4, 6)


def copy(model: ir.Model) -> ir.Model:
    return ir.from_proto(ir.to_proto(model))


def check_exact(before: ir.Model, after: ir.Model, inputs: NDArray[np.float64] = X) -> float:
    """Check that the graph is valid and computes the same numbers."""
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    found = difference(before, after, inputs)
    assert found <= EXACT
    return found


def check_untouched(before: ir.Model, after: ir.Model, applied: Applied) -> None:
    """Check that a refusal did not change the graph, to the last byte of everything that is read."""
    assert applied.times == 0
    clean(before.graph)
    assert digest(before) == digest(after)


def digest(model: ir.Model) -> str:
    return hashlib.sha256(ir.to_proto(model).SerializeToString(deterministic=True)).hexdigest()


def float32_difference(after: ir.Model, **fields: Any) -> float:
    """max |Δ| / max |value| between the traced and the rewritten graph in float32, both on ONNX Runtime."""
    before = traced(Spec(**{**vars(SMALL), **fields}))
    expected, got = (on_runtime(model) for model in (before, ir.to_proto(after)))
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def on_runtime(model: onnx.ModelProto) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images().astype(np.float32)})
    return np.asarray(found)


def graph32(**fields: Any) -> ir.Model:
    """A new copy of the traced graph, in float32."""
    return ir.from_proto(traced(Spec(**{**vars(SMALL), **fields})))


def constant(model: ir.Model, name: str) -> NDArray[Any]:
    value = model.graph.initializers[name].const_value
    assert value is not None
    return value.numpy()


def attention(node: str = "n = Attention(q3, k3, v3)", biases: str = "qkv") -> str:
    """Attention of two heads with three channels over x [batch, 4, 6], and its output projection.

    `biases` names the parts with a bias.
    """
    parts = [projection(part, has_bias=part in biases) for part in "qkv"]
    after = "n1 = Transpose<perm=[0, 2, 1, 3]>(n) n2 = Reshape(n1, flat) o = MatMul(n2, wo) y = Add(o, bo)"
    return " ".join([*parts, node, after])


def projection(part: str, *, has_bias: bool) -> str:
    if not has_bias:
        return f"{part}1 = MatMul(x, w{part}) {heads(part)}"
    return f"{part}0 = MatMul(x, w{part}) {part}1 = Add({part}0, b{part}) {heads(part)}"


def heads(part: str) -> str:
    return f"{part}2 = Reshape({part}1, heads) {part}3 = Transpose<perm=[0, 2, 1, 3]>({part}2)"


def attention_constants() -> dict[str, NDArray[Any]]:
    weights = {f"w{part}": numbers(6, 6, seed=index) for index, part in enumerate("qkvo")}
    biases = {f"b{part}": numbers(6, seed=index) for index, part in enumerate("qkvo")}
    return {**weights, **biases, "heads": np.array([-1, 4, 2, 3]), "flat": np.array([-1, 4, 6])}
