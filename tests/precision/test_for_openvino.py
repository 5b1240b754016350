"""Biases as rows of int8 weights, against the same products with biases and zero points, and on OpenVINO itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from paraexport import targets
from paraexport.graph.onnx_file import save
from paraexport.graph.query import const, operands
from paraexport.graph.refusal import Applied
from paraexport.precision.calibration.calibrators import Scale
from paraexport.precision.int8 import for_openvino, for_target
from paraexport.precision.int8.quantise import apply
from paraexport.precision.preparation import prepare
from paraexport.targets import Dialect
from paraexport.targets.folder import Folder
from tests.precision.small import KINDS, TEST_IMAGES, calibration, on_runtime, relative, traced_file
from tests.precision.test_for_onnxruntime import check, kinds, parsed

PLAIN, WITH_ROWS = Dialect(signed=False), Dialect(signed=False, bias_rows=True)
BEFORE_A_FUNCTION = "h = MatMul (x, w) g = Add (h, b) y = Gelu (g)"


def quantised(text: str, sizes: tuple[int, int, int], scale: Scale, **constants: NDArray[Any]) -> tuple[ir.Model, Any]:
    """The products of `text` in int8, those before a function with one scale for all columns; and these."""
    branches, inner, _ = sizes
    model = parsed(text, f"{branches}, tokens, {inner}", **constants)
    products = for_openvino.before_functions(model.graph)
    apply(model.graph, products, {"x": scale}, products)
    return model, products


def with_rows(model: ir.Model) -> tuple[ir.Model, Applied]:
    """A copy with rows; products are found again by name."""
    after = model.clone()
    names = {node.name for node in model.graph if node.op_type == "MatMul"}
    applied = for_openvino.add_rows(after.graph, [node for node in after.graph if node.name in names])
    check(after)
    return after, applied


@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(64, 90), st.integers(1, 9)),
    zero_point=st.integers(0, 255),
    bias=st.sampled_from([0.0, 1e-3, 1.0, 5.0]),
    biased_first=st.booleans(),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=40, deadline=None)
def test_only_the_fraction_of_a_bias_is_lost(
    sizes: tuple[int, int, int], zero_point: int, bias: float, biased_first: bool, seed: int
) -> None:
    branches, inner, outer = sizes
    random, step = np.random.default_rng(seed), 0.02
    weight = random.standard_normal((branches, inner, outer)).astype(np.float32)
    added = (bias * random.standard_normal((branches, 1, outer))).astype(np.float32)
    text = (
        "h = MatMul (x, w) g = Add (b, h) y = Relu (g)" if biased_first else BEFORE_A_FUNCTION.replace("Gelu", "Relu")
    )
    before, products = quantised(text, sizes, Scale(step, zero_point, signed=False), w=weight, b=added)
    assert len(products) == 1
    after, applied = with_rows(before)
    assert applied.refusals == []
    x = (random.standard_normal((branches, 5, inner)) * 2).astype(np.float32)
    unit = step * np.abs(weight).max() / 127
    expected = on_runtime(before, x)[0]
    assert np.abs(on_runtime(after, x)[0] - expected).max() <= 0.5 * unit + 1e-5 * np.abs(expected).max()
    assert ("Add" in kinds(after)) == (applied.times == 0)


def test_no_bias_and_no_zero_point_need_no_rows() -> None:
    weight = np.random.default_rng(0).standard_normal((2, 64, 3)).astype(np.float32)
    before, _ = quantised("h = MatMul (x, w) y = Relu (h)", (2, 64, 3), Scale(0.1, 0, signed=False), w=weight)
    after, applied = with_rows(before)
    assert applied.times == 0
    assert kinds(after) == kinds(before)


def test_a_bias_far_larger_than_the_products_is_left_alone_and_told() -> None:
    weight = np.random.default_rng(0).standard_normal((2, 64, 3)).astype(np.float32)
    huge = np.full((2, 1, 3), 1e4, np.float32)
    before, _ = quantised(BEFORE_A_FUNCTION, (2, 64, 3), Scale(0.01, 100, signed=False), w=weight, b=huge)
    after, applied = with_rows(before)
    assert applied.times == 0
    assert any("too many" in line for line in applied.refusals)
    assert kinds(after) == kinds(before)


OTHERS = {
    "a bias for each token": ("h = MatMul (x, w) g = Add (h, p) y = Gelu (g)", (2, 64, 3)),
    "a weight that two share": (
        "h = MatMul (x, w) a = Gelu (h) i = MatMul (x, w) c = Gelu (i) y = Mul (a, c)",
        (2, 64, 3),
    ),
    "one weight for all": ("h = MatMul (x, w) y = Gelu (h)", (64, 3)),
    "added to other values": ("h = MatMul (x, w) g = Add (h, b) z = MatMul (x, w) y = Add (g, z)", (2, 64, 3)),
}


@pytest.mark.parametrize(("text", "shape"), OTHERS.values(), ids=OTHERS)
def test_other_products_are_not_chosen(text: str, shape: tuple[int, ...]) -> None:
    weight, bias = np.ones(shape, np.float32), np.ones((2, 1, 3), np.float32)
    possible = {"w": weight, "b": bias, "p": np.ones((5, 3), np.float32)}
    given = {name: array for name, array in possible.items() if f" {name})" in text}
    assert for_openvino.before_functions(parsed(text, "2, 5, 64", **given).graph) == []


def whole(folder: Path, dialect: Dialect, fields: dict[str, Any]) -> ir.Model:
    prepared = prepare(traced_file(folder, **fields), "stacked", (), equalised=True)
    return for_target.quantise_for(prepared, dialect, calibration(folder))


MODELS = {**KINDS, "relu, of which nothing is below 0": {"activation": "relu", "residual": "input"}}


@pytest.mark.parametrize("fields", MODELS.values(), ids=MODELS)
def test_a_whole_model_on_openvino(fields: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    # The small models are narrower than any that columns are worth for.
    fields = {"dim": 64, "head_dim": 16, "mlp_dim": 96, **fields}
    model = whole(tmp_path, WITH_ROWS, fields)
    wide = [node for node in model.graph if node.op_type == "Pad"]
    assert wide, "there is something to see"
    for node in wide:
        assert const(operands(node)[2]) in (1, 255)
    expected = on_runtime(whole(tmp_path, PLAIN, fields))[0]
    save(model, tmp_path / "model.onnx")
    workload = targets.Workload(image=TEST_IMAGES.shape[1:], max_batch=len(TEST_IMAGES), precision="int8")
    got = targets.get("openvino").open_session(Folder(tmp_path), workload)(TEST_IMAGES)
    # One scale for all columns in the place of one for each, and values that round otherwise.
    assert relative(got, expected) <= 0.05
    assert relative(on_runtime(model)[0], got) <= 0.02
    check(model)
