"""Edits leave a valid graph that computes the same."""

import onnx
import onnx_ir as ir

from paraexport.graph.edit import add_constant, add_node, clean, substitute
from paraexport.graph.query import operands, result, weight_of
from paraexport.graph.shapes import dims
from tests.rewrite.exact import difference
from tests.rewrite.graphs import graph64, images


def test_a_product_split_in_two_halves_is_the_same_graph() -> None:
    before, after = graph64(), graph64()
    graph = after.graph
    product = next(node for node in graph if weight_of(node) is not None)
    weight = weight_of(product)
    assert weight is not None
    left, shape, old = operands(product)[0], dims(result(product)), operands(product)[1].name
    halves = [
        add_node(product, "MatMul", [left, add_constant(graph, "half", weight * 0.5)], name="product", shape=shape)
        for _ in range(2)
    ]
    substitute(result(product), add_node(product, "Add", halves, name="together", shape=shape))
    clean(graph)
    assert product.graph is None
    assert old not in graph.initializers
    assert {"product", "product_1"} <= {node.name for node in graph}
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    assert difference(before, after, images()) <= 1e-15


def test_a_substituted_output_keeps_its_name() -> None:
    model = graph64()
    last = model.graph.outputs[0].producer()
    assert last is not None
    zero = add_node(last, "Identity", [operands(last)[0]], name="unused")
    substitute(result(last), add_node(last, "Gemm", list(last.inputs), {"transB": 1}, name="again"))
    clean(model.graph)
    assert zero.producer() is not None
    assert [value.name for value in model.graph.outputs] == ["logits"]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert difference(graph64(), model, images()) == 0
