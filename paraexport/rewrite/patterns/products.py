"""Products of an activation by a constant, with their bias: what constants are folded into.

All arithmetic on weights is in float64; what is stored has the type of what it replaces.
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
    scale_of,
    weight_of,
)
from paraexport.graph.refusal import Refused
from paraexport.graph.shapes import dims

Axis = Literal["rows", "columns"]
MAX_COPIES = 2
"""How often a weight that several products share may be written anew; more would multiply the size of the model."""


@dataclass(frozen=True, eq=False)
class Product:
    """source [..., K] @ weight [K, J] + bias, as a MatMul, a MatMul and its Add, or a Gemm."""

    node: ir.Node
    source: ir.Value
    weight: NDArray[Any]
    bias: NDArray[Any] | None
    """Broadcasts to the result; None where there is none."""
    adding: ir.Node | None
    """The Add of the bias, where that is a node of its own."""

    @property
    def shared_weight(self) -> ir.Value:
        """The constant behind `weight`, which other products may read too."""
        return operands(self.node)[1]

    @property
    def output(self) -> ir.Value:
        """The value with the bias."""
        return result(self.adding or self.node)


def product_of(node: ir.Node | None) -> Product | None:
    """The product that a MatMul or Gemm is, or None where it multiplies by no constant matrix."""
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


def products_reading(value: ir.Value) -> tuple[list[Product], list[str]]:
    """The products with `value` as their activation, and the names of everything else that reads it."""
    found: list[Product] = []
    others = ["the caller of the graph"] if value.is_graph_output() else []
    for node in readers(value):
        product = product_of(node)
        if product is None or product.source is not value:
            others.append(node.name or node.op_type)
        else:
            found.append(product)
    return found, others


def channels(constant: NDArray[Any], size: int) -> NDArray[np.float64]:
    """A constant that varies along the last axis only, as one number for each of `size` channels.

    Raises:
        Refused: it varies along another axis.
    """
    if constant.size not in (1, size) or constant.size != (constant.shape[-1] if constant.ndim else 1):
        raise Refused(f"its constant {list(constant.shape)} varies along more than the {size} channels")
    return np.broadcast_to(constant.astype(np.float64).reshape(-1), (size,))


def worth_folding(source: ir.Value, others: list[str]) -> None:
    """Whether products should read `source` instead of a Mul or Add that stays because of its other readers.

    Only where that lets them read what products of other branches read: the unit norm below several scales and
    offsets. Elsewhere nothing would vanish, and a product without a bias would gain one.

    Raises:
        Refused: it does not pay.
    """
    if not others:
        return
    while (below := affine_source(source)) is not None:
        source = below
    leading_on = [node for node in readers(source) if product_of(node) or scale_of(node) or bias_of(node)]
    if len(leading_on) < 2:
        raise Refused(f"{', '.join(others)} reads it as well, and no other branch shares {source.name}")


def affine_source(value: ir.Value) -> ir.Value | None:
    """x of x ⊙ constant or x + constant; None for what is neither, or is a product with its bias."""
    affine = scale_of(value.producer()) or bias_of(value.producer())
    return affine[0] if affine is not None and product_at(value) is None else None


def set_source(product: Product, source: ir.Value) -> None:
    product.node.replace_input_with(0, source)


def set_bias(product: Product, bias: NDArray[np.float64]) -> None:
    """Give the product another bias; one without a bias gains an Add, which takes over the name of its value."""
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
        again = add_node(node, "MatMul", operands(node), name=f"{output.name}/MatMul", shape=dims(output))
        biased = add_node(node, "Add", [again, constant], name=f"{output.name}/Add", shape=dims(output))
        substitute(output, biased)
        take_name(biased, output)
        node.graph.remove(node, safe=True)


class ScaledWeights:
    """Weights with scaled rows or columns: one new constant a weight and factor, however many products read it."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.known: dict[tuple[ir.Value, bool, bytes], ir.Value] = {}

    def put(self, product: Product, factor: NDArray[np.float64], axis: Axis) -> None:
        """Scale row k of the product's weight by factor[k], or column j by factor[j]; not its bias."""
        old, stored = product.shared_weight, const(product.shared_weight)
        assert stored is not None
        along_first = (axis == "rows") != bool(int_of(product.node, "transB", 0))
        key = old, along_first, factor.tobytes()
        known = self.known.get(key)
        if known is None or self.graph.initializers.get(known.name or "") is not known:
            scaled = stored.astype(np.float64) * (factor[:, None] if along_first else factor)
            self.known[key] = add_constant(self.graph, old.name or "weight", scaled.astype(stored.dtype))
        replace_constant(product.node, 1, self.known[key])

    def put_columns(self, product: Product, factor: NDArray[np.float64], name: str) -> None:
        """Scale what the product gives, bias included, channel by channel; its value is called `name` from now on."""
        bias = product.bias
        self.put(product, factor, "columns")
        if bias is not None:
            set_bias(product, bias.astype(np.float64) * factor)
        rename(product.output, name)
