"""Kernels of graphs, against counts by hand and against the same model with more branches."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest

from paraexport.bench.predict.layouts import LAYOUTS, LayoutGraphs, write_layouts
from paraexport.graph.cost import multiply_adds
from paraexport.graph.kernels import kernels
from tests.trace.test_trace import small_spec


def numbers(count: int) -> str:
    return ", ".join(["1"] * count)


GRAPH = f"""
<ir_version: 10, opset_import: ["" : 20]>
g (float[batch, 5, 8] x) => (float[batch, 40] z)
<float[8, 6] first = {{{numbers(48)}}}, float[6] bias = {{{numbers(6)}}}, float[6, 8] second = {{{numbers(48)}}},
 int64[2] shape = {{0, -1}}>
{{
    a = MatMul(x, first)
    b = Add(a, bias)
    c = Gelu(b)
    d = MatMul(c, second)
    e = Add(d, x)
    f = Softmax(e)
    z = Reshape(f, shape)
}}
"""


def graph_of(text: str) -> ir.Graph:
    return ir.from_proto(onnx.parser.parse_model(text)).graph


def test_numbers_join_their_product() -> None:
    """Batch 2: Add and Gelu join the first product, the skip joins the second, and Softmax is a kernel of its own."""
    first, second, last = kernels(graph_of(GRAPH), 2)
    assert (first.multiply_adds, first.weights, first.activations) == (2 * 5 * 6 * 8, 48 + 6, 80 + 60)
    assert (second.multiply_adds, second.weights, second.activations) == (2 * 5 * 8 * 6, 48, 60 + 80 + 80)
    assert (last.multiply_adds, last.weights, last.activations) == (0, 0, 80 + 80)
    assert [kernel.weighted for kernel in (first, second, last)] == [True, True, False]


def test_a_value_that_two_nodes_read_is_written() -> None:
    """`a` is read twice, so neither the Add nor the Gelu joins its product."""
    text = GRAPH.replace("b = Add(a, bias)", "a2 = Relu(a)\n    b = Add(a, a2)")
    product, joined, *_ = kernels(graph_of(text), 2)
    assert product.activations == 80 + 60
    assert joined.activations == 60 + 60 + 60  # Relu reads `a`, the Add reads it again, Gelu writes


def test_unknown_shapes_are_named() -> None:
    text = GRAPH.replace("float[batch, 5, 8] x", "float[batch, tokens, 8] x")
    with pytest.raises(ValueError, match="the shapes at these nodes are not known: MatMul"):
        kernels(graph_of(text), 2)


@pytest.fixture(scope="module")
def two_and_three() -> tuple[LayoutGraphs, LayoutGraphs]:
    spec = small_spec(branches=3)
    return write_layouts(spec), write_layouts(spec, most_branches=3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_branches_are_alike(layout: str, two_and_three: tuple[LayoutGraphs, LayoutGraphs]) -> None:
    """From two branches to three: multiply-adds are those of the real graph, the rest nearly so."""
    two, three = two_and_three
    real_graph = three.graphs[layout]
    scaled, real = two.kernels(layout, 3), three.kernels(layout, 3)
    assert (two.branches, three.branches) == (2, 3)
    assert sum(kernel.multiply_adds for kernel in scaled) == multiply_adds(real_graph, 3)
    assert len(scaled) == len(real)
    for size in ("weights", "activations"):
        ratio = sum(getattr(each, size) for each in scaled) / sum(getattr(each, size) for each in real)
        assert ratio == pytest.approx(1, abs=0.1)
