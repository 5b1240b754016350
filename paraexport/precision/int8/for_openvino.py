"""Writes biases and zero points as rows of the weights, for OpenVINO's products with one weight per branch, [L, K, J].

    x W + b ≈ s S Σ_k (q_k − z) w_kj + b_j = s S (Σ_k q_k w_kj + t_j),  t_j = b_j / (s S) − z Σ_k w_kj

OpenVINO can fuse one per-tensor scale into such a product, but not a per-branch bias or a zero point. Each of those,
and the GELU and quantisation after them, would then read and write the whole result in float32.

So t becomes part of the product. The activation q gets columns that are always 255, and one column that is always 1.
The weight w gets a row for each of them, so that t_j = 255 Σ_h r_hj + r_0j with |r| ≤ 127. This loses only the fraction
of t_j, which is small beside the integers q_k w_kj.

All columns of a weight share one scale S. OpenVINO 2026.4.1 reads wrong scales inside a product whose weight has three
axes and one scale per column. `benchmarks.forms` measures the speed, `benchmarks.int8_peers` the accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.edit import add_constant, add_node, clean, replace_constant, substitute, take_name
from paraexport.graph.naming import beside
from paraexport.graph.query import bias_behind, const, is_op, operands, readers, result
from paraexport.graph.refusal import Applied, Refused
from paraexport.graph.shapes import Sizes, require_numbers, require_sizes
from paraexport.precision.calibration.calibrators import Scale
from paraexport.precision.int8 import quantise
from paraexport.precision.int8.linears import linears

FUNCTIONS = ("Gelu", "Relu")
"""Pointwise functions. Only products before them gain: a sum after a product takes a bias and a zero point for free."""
LARGEST_UINT8, LARGEST_INT8 = 255, 127
COLUMNS_PER_ADDED = 4
"""At most one column may be added for this many existing ones; more would cost more than they save."""


@dataclass(frozen=True, eq=False)
class BiasedProduct:
    """One product in int8, and the term t that its new rows add."""

    node: ir.Node
    weight: ir.Node
    """The DequantizeLinear of its weight."""
    bias: ir.Node | None
    """The Add after the product; None without a bias."""
    terms: NDArray[np.int64]
    """t, [L, 1, J]."""


def lower(graph: ir.Graph, scales: Mapping[str, Scale]) -> Applied:
    """Write the graph in int8, and move biases and zero points into rows where that is faster.

    A weight of three axes gets one scale for all columns if OpenVINO would fuse its scale into the product: before a
    function, or if the activation has zero point 0. A zero point keeps the scales outside of the product.
    """
    with_rows = before_functions(graph)
    uniform = [
        node for node in batched(graph) if node in with_rows or not scales[operands(node)[0].name or ""].zero_point
    ]
    quantise.apply(graph, linears(graph), scales, uniform)
    return add_rows(graph, with_rows)


def batched(graph: ir.Graph) -> list[ir.Node]:
    """The products whose weight has three axes, [L, K, J]."""
    return [node for node in linears(graph) if array_of(operands(node)[1]).ndim == 3]


def before_functions(graph: ir.Graph) -> list[ir.Node]:
    """The batched products that no other node shares a weight with, and whose result only `FUNCTIONS` read.

    A bias may come between the product and the function.
    """
    return [
        node
        for node in batched(graph)
        if len(operands(node)[1].uses()) == 1
        and all(is_op(reader, *FUNCTIONS) for reader in readers(result(last_of_product(node))))
    ]


def row_behind(node: ir.Node) -> tuple[ir.Node, NDArray[Any]] | None:
    """(the Add after the product, its constant), if the constant is the same for all tokens."""
    bias = bias_behind(node)
    return bias if bias and (bias[1].ndim < 2 or bias[1].shape[-2] == 1) else None


def last_of_product(node: ir.Node) -> ir.Node:
    """The Add of the bias, or the product itself without one."""
    bias = row_behind(node)
    return node if bias is None else bias[0]


def add_rows(graph: ir.Graph, nodes: Collection[ir.Node]) -> Applied:
    """Add rows to the weights of these products, and columns to their activations.

    The products are in int8 already, each with one scale. Products that read the same activation share its columns.
    """
    applied = Applied("bias_rows")
    by_activation: dict[ir.Node, list[BiasedProduct]] = {}
    for node in nodes:
        activation, weight = (value.producer() for value in operands(node))
        assert activation is not None
        assert weight is not None
        by_activation.setdefault(activation, []).append(biased_product(node, activation, weight))
    for activation, products in by_activation.items():
        try:
            applied.times += widen(graph, activation, products)
        except Refused as refusal:
            applied.refuse(activation, refusal)
    clean(graph)
    return applied


def biased_product(node: ir.Node, activation: ir.Node, weight: ir.Node) -> BiasedProduct:
    step, zero = (array_of(value) for value in operands(activation)[1:])
    integers, steps = (array_of(value) for value in operands(weight)[:2])
    bias, added = row_behind(node) or (None, np.zeros(1))
    # Computed from the integers that are stored, so that the zero point cancels exactly.
    centre = int(zero) * integers.sum(axis=1, keepdims=True, dtype=np.int64)
    terms = np.rint(added / (float(step) * steps.astype(np.float64))).astype(np.int64) - centre
    return BiasedProduct(node, weight, bias, terms)


def array_of(value: ir.Value) -> NDArray[Any]:
    array = const(value)
    assert array is not None
    return array


def widen(graph: ir.Graph, activation: ir.Node, products: Sequence[BiasedProduct]) -> int:
    """Add the columns to one activation, and the rows to all products that read it; returns their number.

    Raises:
        Refused: so many columns are needed that they would cost more than they save.
    """
    if not any(product.terms.any() for product in products):
        return 0
    # As many columns of 255 as the largest |t| needs, since a row can hold at most 127 of 255 each.
    count = max(math.ceil(int(np.abs(multiples_of_255(product.terms)).max()) / LARGEST_INT8) for product in products)
    inner = last_size(require_sizes(result(activation)))
    if (count + 1) * COLUMNS_PER_ADDED > inner:
        raise Refused(f"{count + 1} columns more than {inner} are too many")
    integers, step, zero = operands(activation)
    columns = pad_columns(graph, activation, pad_columns(graph, activation, integers, count, LARGEST_UINT8), 1, 1)
    name, shape = f"{result(activation).name}/wide", require_sizes(columns)
    no_zero_point = add_constant(graph, f"{name}/zero_point", np.zeros_like(array_of(zero)))
    wide = add_node(activation, "DequantizeLinear", [columns, step, no_zero_point], name=name, shape=shape)
    wide.dtype = ir.DataType.FLOAT
    for product in products:
        product.node.replace_input_with(0, wide)
        lengthen(graph, product, count)
    return len(products)


def multiples_of_255(terms: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often 255 goes into each term, rounded. The column of 1 adds the rest, which is at most 127."""
    return np.rint(terms / LARGEST_UINT8).astype(np.int64)


def last_size(sizes: Sizes) -> int:
    return require_numbers(sizes[-1:], "the value")[0]


def pad_columns(graph: ir.Graph, before: ir.Node, value: ir.Value, count: int, number: int) -> ir.Value:
    """The value with `count` more columns at the end, all filled with `number`."""
    if not count:
        return value
    sizes, name = require_sizes(value), value.name or "value"
    pads = np.zeros(2 * len(sizes), np.int64)
    pads[-1] = count
    filling = add_constant(graph, f"{name}/pad", np.asarray(number, np.uint8))
    inputs = [value, add_constant(graph, f"{name}/pads", pads), filling]
    shape = (*sizes[:-1], last_size(sizes) + count)
    return add_node(before, "Pad", inputs, name=beside(name, "Pad"), shape=shape)


def lengthen(graph: ir.Graph, product: BiasedProduct, count: int) -> None:
    """Append the rows for t to the weight of a product, and remove its bias."""
    weight, multiples = operands(product.weight)[0], multiples_of_255(product.terms)
    # Σ_i ⌊(m + i) / n⌋ over i = 0 … n-1 is exactly m: it spreads m evenly over n rows, for negative m too.
    rows = [*((multiples + index) // count for index in range(count)), product.terms - LARGEST_UINT8 * multiples]
    longer = np.concatenate([array_of(weight), *(row.astype(np.int8) for row in rows)], axis=1)
    replace_constant(product.weight, 0, add_constant(graph, weight.name or "weight", longer))
    result(product.weight).shape = ir.Shape(longer.shape)
    if product.bias is not None:
        biased = result(product.bias)
        substitute(biased, result(product.node))
        take_name(result(product.node), biased)
