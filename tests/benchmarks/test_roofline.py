"""Operations and bytes against numbers counted by hand, and the floor against its two sides."""

from __future__ import annotations

import math
from pathlib import Path

import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.gpu.check import with_roofline
from benchmarks.gpu.rows import Row
from benchmarks.harness import ceilings
from benchmarks.harness.ceilings import Ceilings
from benchmarks.roofline import Work, count_work
from tests.rewrite.graphs import SMALL, traced
from tests.targets.engines import SMALL as FOR_TENSORRT
from tests.targets.engines import write_graph

TOKENS, DIM, MLP, HEADS, HEAD_DIM, CLASSES, PATCHES, PIXELS = 9, 12, 20, 3, 4, 5, 8, 6
SIZES = {"float": 4, "float16": 2, "bfloat16": 2}
KINDS = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16"}
size = st.integers(1, 40)


def graph(text: str) -> ir.Graph:
    return ir.from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {text}')).graph


@given(size, size, size, size, st.sampled_from(sorted(SIZES)))
@settings(deadline=None, max_examples=30)
def test_a_product_reads_its_operands_and_writes_its_result_once(
    batch: int, rows: int, inner: int, columns: int, kind: str
) -> None:
    weight = f"<{kind}[{inner},{columns}] w = {{{', '.join(['0'] * inner * columns)}}}>"
    shapes = f"({kind}[batch,{rows},{inner}] x) => ({kind}[batch,{rows},{columns}] y)"
    work = count_work(graph(f"g {shapes} {weight} {{ r = Relu(x) y = MatMul(r, w) }}"), batch)
    assert work.operations == {KINDS[kind]: 2 * batch * rows * inner * columns}
    assert work.weight_bytes == SIZES[kind] * inner * columns
    assert work.activation_bytes == SIZES[kind] * batch * rows * (inner + columns)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_traced_model_is_counted_product_by_product(batch: int) -> None:
    work = count_work(ir.from_proto(traced(SMALL)).graph, batch)
    projections = [(DIM, HEADS * HEAD_DIM)] * 3 + [(HEADS * HEAD_DIM, DIM), (DIM, MLP), (MLP, DIM)]
    layer = sum(TOKENS * inner * outer for inner, outer in projections) + 2 * HEADS * TOKENS * TOKENS * HEAD_DIM
    ends = PATCHES * PIXELS * DIM + DIM * CLASSES
    assert work.operations == {"fp32": 2 * batch * (6 * layer + ends)}
    weights = 6 * sum(inner * outer for inner, outer in projections) + PIXELS * DIM + DIM * CLASSES + CLASSES
    assert work.weight_bytes == 4 * weights  # the head's product has its bias with it
    moved = sum(TOKENS * (inner + outer) for inner, outer in projections) + 4 * TOKENS * HEADS * HEAD_DIM
    assert work.activation_bytes == 4 * batch * (6 * moved + PATCHES * (PIXELS + DIM) + DIM + CLASSES)


def test_int8_products_read_a_byte_a_number(tmp_path: Path) -> None:
    expected = write_graph(FOR_TENSORRT, "stacked", "int8", tmp_path / "int8")
    write_graph(FOR_TENSORRT, "stacked", "fp32", tmp_path / "fp32")
    low = count_work(ir.load(tmp_path / "int8/model.onnx").graph, 1)
    assert low.operations["int8"] == 2 * sum(expected.values())
    spec = FOR_TENSORRT
    layer = 4 * spec.dim * spec.heads * spec.head_dim + 2 * spec.dim * spec.mlp_dim
    ends = 16 * spec.dim + spec.dim * spec.classes
    # Biases of the head's product and rewrites that hold more weights are within a quarter.
    assert low.weight_bytes == pytest.approx(spec.branches * spec.depth * layer + 4 * ends, rel=0.25)
    assert low.weight_bytes < count_work(ir.load(tmp_path / "fp32/model.onnx").graph, 1).weight_bytes / 2


def test_what_has_no_shape_is_not_counted_as_nothing() -> None:
    text = "g (float[batch,4] x, int64[n] s) => (float y) { r = Reshape(x, s) y = MatMul(r, r) }"
    with pytest.raises(ValueError, match="no shape to count"):
        count_work(graph(text), 1)


positive = st.floats(1e-3, 1e15)


@given(st.integers(1, 10**12), st.integers(1, 10**12), positive, positive)
def test_the_floor_is_the_larger_of_arithmetic_and_memory(
    operations: int, moved: int, peak: float, bandwidth: float
) -> None:
    work = Work({"fp16": operations}, moved, 0)
    floor_s = work.floor_s(Ceilings("device", {"fp16": peak}, bandwidth, {}))
    assert floor_s >= operations / peak
    assert floor_s >= moved / bandwidth
    assert floor_s in (operations / peak, moved / bandwidth)
    assert floor_s <= Work({"fp16": 2 * operations}, moved, moved).floor_s(
        Ceilings("device", {"fp16": peak}, bandwidth, {})
    )


def test_precisions_follow_one_another() -> None:
    measured = Ceilings("device", {"fp32": 1e9, "int8": 4e9}, 1e12, {})
    assert Work({"fp32": 10**9, "int8": 2 * 10**9}, 1, 1).floor_s(measured) == pytest.approx(1.5)


def test_a_row_has_the_fraction_of_the_roofline() -> None:
    row = Row("branches", "tensorrt, stacked", "fp16", 16, 2, 1, latency_ms=4.0)
    work = Work({"fp16": 10**9}, 10**6, 10**6)
    rated = with_roofline(row, work, Ceilings("GPU", {"fp16": 1e12}, 1e9, {}))
    assert (rated.gflop, rated.moved_mb) == (1.0, 2.0)
    assert rated.floor_ms == pytest.approx(2.0)
    assert rated.attained == pytest.approx(0.5)
    unknown = with_roofline(row, work, Ceilings("GPU", {"fp32": 1e12}, 1e9, {"fp16": "no kernel"}))
    assert (unknown.gflop, unknown.floor_ms, unknown.attained) == (1.0, None, None)
    assert with_roofline(row, work, "none were measured").attained is None


def test_ceilings_are_measured_on_this_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "LARGEST", 256)
    monkeypatch.setattr(ceilings, "COPIED_BYTES", 2**22)
    measured = ceilings.measure("cpu", 1)
    assert {*measured.peaks} | {*measured.missing} == {"fp32", "fp16", "bf16", "int8"}
    assert "fp32" in measured.peaks
    assert all(math.isfinite(value) and value > 1e6 for value in (*measured.peaks.values(), measured.bandwidth))
    assert measured.table().count("\n") == 6


def test_the_peak_is_that_of_a_large_product_even_if_small_ones_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {256: 0.023, 512: 0.023, 1024: 0.023, 2048: 0.1, 4096: 0.9}  # as on a busy machine
    monkeypatch.setattr(ceilings, "product", lambda _kind, _device, rows: rows)
    monkeypatch.setattr(ceilings, "shortest_s", lambda rows, _device: seconds[rows])
    assert ceilings.peak("fp32", "cpu") == pytest.approx(2 * 2048**3 / 0.1)
