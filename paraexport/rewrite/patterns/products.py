"""Finds products of an activation by a constant, with their bias, and changes their weights and biases.

All arithmetic on weights is in float64. The new constants have the type of the old ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.attributes import float_of, int_of
from paraexport.graph.edit import add_constant, add_node, rename, replace_constant, substitute, take_name
from paraexport.graph.query import (
    bias_behind,
    bias_of,
    const,
    input_of,
    is_matrix,
    is_op,
    operands,
    readers,
    result,
    weight_of,
)
from paraexport.graph.refusal import Refused, node_label
from paraexport.graph.shapes import dims

Axis = Literal["rows", "columns"]
MAX_COPIES = 2
"""The most copies that may replace a weight shared by several products. More would multiply the size of the model."""


@dataclass(frozen=True, eq=False)
class Product:
    """source [..., K] @ weight [K, J] + bias: a MatMul, a MatMul and an Add, or a Gemm."""

    node: ir.Node
    source: ir.Value
    weight: NDArray[Any]
    bias: NDArray[Any] | None
    """Broadcasts to the result; None if there is no bias."""
    adding: ir.Node | None
    """The Add of the bias, if it is a separate node."""

    @property
    def shared_weight(self) -> ir.Value:
        """The constant of `weight`. Other products may read it too."""
        return operands(self.node)[1]

    @property
    def output(self) -> ir.Value:
        """The result, bias included."""
        return result(self.adding or self.node)


def product_of(node: ir.Node | None) -> Product | None:
    """The product of a MatMul or Gemm by a constant matrix; None for other nodes."""
    if node is None:
        return None
    if is_op(node, "Gemm"):
        return gemm(node)
    weight = weight_of(node)
    if weight is None:
        return None
    adding, bias = bias_behind(node) or (None, None)
    return Product(node, operands(node)[0], weight, bias, adding)


def gemm(node: ir.Node) -> Product | None:
    source, added = operands(node)[0], input_of(node, 2)
    weight, bias = const(input_of(node, 1)), const(added)
    plain = float_of(node, "alpha", 1.0) == float_of(node, "beta", 1.0) == 1.0 and not int_of(node, "transA", 0)
    if not plain or weight is None or not is_matrix(weight) or const(source) is not None:
        return None
    if added is not None and bias is None:
        return None
    return Product(node, source, weight.T if int_of(node, "transB", 0) else weight, bias, None)


def product_at(value: ir.Value) -> Product | None:
    """The product whose output, bias included, is `value`."""
    node = value.producer()
    added = bias_of(node)
    product = product_of(node if added is None else added[0].producer())
    return product if product is not None and product.output is value else None


def require_product_at(value: ir.Value) -> Product:
    """The same as `product_at`.

    Raises:
        Refused: the value is not the output of a product by a constant.
    """
    if (product := product_at(value)) is None:
        raise Refused(f"{value.name} is not the result of a product by a constant")
    return product


def products_reading(value: ir.Value) -> tuple[list[Product], list[str]]:
    """The products with `value` as their activation, and the names of all other readers."""
    products: list[Product] = []
    others = ["the graph's output"] if value.is_graph_output() else []
    for node in readers(value):
        product = product_of(node)
        if product is None or product.source is not value:
            others.append(node_label(node))
        else:
            products.append(product)
    return products, others


def require_only_products(value: ir.Value) -> list[Product]:
    """The products with `value` as their activation.

    Raises:
        Refused: there are none, or something else reads the value too.
    """
    products, others = products_reading(value)
    if others or not products:
        raise Refused(
            f"{value.name} is read by {', '.join(others) or 'no product'}; expected only products by constants"
        )
    return products


def channels(constant: NDArray[Any], size: int) -> NDArray[np.float64]:
    """One number for each of `size` channels, from a constant that varies along the last axis only.

    Raises:
        Refused: the constant varies along another axis.
    """
    if constant.size not in (1, size) or constant.size != (constant.shape[-1] if constant.ndim else 1):
        raise Refused(f"its constant {list(constant.shape)} varies along other axes than the {size} channels")
    return np.broadcast_to(constant.astype(np.float64).reshape(-1), (size,))


def set_source(product: Product, source: ir.Value) -> None:
    product.node.replace_input_with(0, source)


def set_bias(product: Product, bias: NDArray[np.float64]) -> None:
    """Give the product another bias. A product without a bias gets an Add, whose result takes its name."""
    node, output = product.node, product.output
    assert node.graph is not None
    constant = add_constant(node.graph, f"{output.name}/bias", bias.astype(product.weight.dtype))
    if product.adding is not None:
        added = bias_of(product.adding)
        assert added is not None
        position = 1 - operands(product.adding).index(added[0])
        replace_constant(product.adding, position, constant)
    elif is_op(node, "Gemm"):
        node.resize_inputs(3)
        replace_constant(node, 2, constant)
    else:
        product_value = add_node(node, "MatMul", operands(node), name=f"{output.name}/MatMul", shape=dims(output))
        biased = add_node(node, "Add", [product_value, constant], name=f"{output.name}/Add", shape=dims(output))
        substitute(output, biased)
        take_name(biased, output)
        node.graph.remove(node, safe=True)


class ScaledWeights:
    """Scales rows or columns of weights. Products with the same weight and factor share one new constant."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.known: dict[tuple[ir.Value, bool, bytes], ir.Value] = {}

    def put(self, product: Product, factor: NDArray[np.float64], axis: Axis) -> None:
        """Scale row k of the weight by factor[k], or column j by factor[j]. The bias does not change."""
        old, stored = product.shared_weight, const(product.shared_weight)
        assert stored is not None
        along_first = (axis == "rows") != bool(int_of(product.node, "transB", 0))
        key = old, along_first, factor.tobytes()
        known = self.known.get(key)
        # `clean` may have removed a constant that nothing read for a while.
        if known is None or self.graph.initializers.get(known.name or "") is not known:
            scaled = stored.astype(np.float64) * (factor[:, None] if along_first else factor)
            self.known[key] = add_constant(self.graph, old.name or "weight", scaled.astype(stored.dtype))
        replace_constant(product.node, 1, self.known[key])

    def put_columns(self, product: Product, factor: NDArray[np.float64], name: str) -> None:
        """Scale the result of the product channel by channel, bias included, and rename it to `name`."""
        bias = product.bias
        self.put(product, factor, "columns")
        if bias is not None:
            set_bias(product, bias.astype(np.float64) * factor)
        rename(product.output, name)
