"""Biases and zero points as rows of the weights, for OpenVINO's products with a weight for each branch, [L, K, J].

    x W + b ≈ s S Σ_k (q_k − z) w_kj + b_j = s S (Σ_k q_k w_kj + t_j),  t_j = b_j / (s S) − z Σ_k w_kj

With such weights OpenVINO computes inside a product what has one number for all columns, and neither a bias for each
branch nor a zero point. Both, and then the GELU and the quantisation behind them, read and write all of it in float32.
Here q gets columns that are always 255 and one that is always 1, and w the rows that make t of them, t_j = 255 Σ_h r_hj
+ r_0j with |r| ≤ 127. Of t only the fraction is lost, beside integers as large as q_k w_kj.

All columns then have one scale S: of what has a number for each column, OpenVINO 2026.4.1 reads wrong ones inside a
product with a weight of three axes. `benchmarks.forms` measures speed, `benchmarks.int8_peers` accuracy.
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
from paraexport.graph.shapes import require_sizes
from paraexport.precision.calibration.calibrators import Scale
from paraexport.precision.int8 import quantise
from paraexport.precision.int8.linears import linears
from paraexport.rewrite.stacking.views import Sizes, known

FUNCTIONS = ("Gelu", "Relu")
"""Of each number; where a sum of values follows, a bias and a zero point cost nothing more there."""
WHOLE, LARGEST = 255, 127
"""The largest uint8, and int8."""
FEW = 4
"""More columns than one for so many are not worth it."""


@dataclass(frozen=True, eq=False)
class Product:
    """One product in int8, and t."""

    node: ir.Node
    weight: ir.Node
    """Its DequantizeLinear."""
    bias: ir.Node | None
    """The Add behind."""
    terms: NDArray[np.int64]
    """t, [L, 1, J]."""


def lower(graph: ir.Graph, scales: Mapping[str, Scale]) -> Applied:
    """Write the graph in int8. One scale a weight: before functions, or where no zero point keeps scales outside."""
    inside = before_functions(graph)
    uniform = [node for node in batched(graph) if node in inside or not scales[operands(node)[0].name or ""].zero_point]
    quantise.apply(graph, linears(graph), scales, uniform)
    return rows(graph, inside)


def batched(graph: ir.Graph) -> list[ir.Node]:
    """The products with a weight of three axes."""
    return [node for node in linears(graph) if array_of(operands(node)[1]).ndim == 3]


def before_functions(graph: ir.Graph) -> list[ir.Node]:
    """Those of them whose result, or that with a bias, only functions of each number read, the weight theirs alone."""
    return [
        node
        for node in batched(graph)
        if len(operands(node)[1].uses()) == 1
        and all(is_op(reader, *FUNCTIONS) for reader in readers(result(last_of_product(node))))
    ]


def row_behind(node: ir.Node) -> tuple[ir.Node, NDArray[Any]] | None:
    """The Add behind the product, and its constant, where that is the same for all tokens."""
    found = bias_behind(node)
    return found if found and (found[1].ndim < 2 or found[1].shape[-2] == 1) else None


def last_of_product(node: ir.Node) -> ir.Node:
    """The node with the bias."""
    found = row_behind(node)
    return node if found is None else found[0]


def rows(graph: ir.Graph, nodes: Collection[ir.Node]) -> Applied:
    """Give these products, in int8 by now and each with one scale, their rows; what they read, its columns."""
    applied = Applied("bias_rows")
    read: dict[ir.Node, list[Product]] = {}
    for node in nodes:
        activation, weight = (value.producer() for value in operands(node))
        assert activation is not None
        assert weight is not None
        read.setdefault(activation, []).append(product_of(node, activation, weight))
    for activation, found in read.items():
        try:
            applied.times += widen(graph, activation, found)
        except Refused as refusal:
            applied.refuse(activation, refusal)
    clean(graph)
    return applied


def product_of(node: ir.Node, activation: ir.Node, weight: ir.Node) -> Product:
    step, zero = (array_of(value) for value in operands(activation)[1:])
    integers, steps = (array_of(value) for value in operands(weight)[:2])
    bias, added = row_behind(node) or (None, np.zeros(1))
    centre = int(zero) * integers.sum(axis=1, keepdims=True, dtype=np.int64)
    terms = np.rint(added / (float(step) * steps.astype(np.float64))).astype(np.int64) - centre
    return Product(node, weight, bias, terms)


def array_of(value: ir.Value) -> NDArray[Any]:
    array = const(value)
    assert array is not None
    return array


def widen(graph: ir.Graph, activation: ir.Node, products: Sequence[Product]) -> int:
    """Give these products of one activation their columns and rows; how many they were."""
    if not any(one.terms.any() for one in products):
        return 0
    whole = max(math.ceil(int(np.abs(coarse(one.terms)).max()) / LARGEST) for one in products)
    inner = last_of(require_sizes(result(activation)))
    if (whole + 1) * FEW > inner:
        raise Refused(f"{whole + 1} columns more than {inner} are too many")
    integers, step, zero = operands(activation)
    columns = padded(graph, activation, padded(graph, activation, integers, whole, WHOLE), 1, 1)
    name, shape = f"{result(activation).name}/wide", require_sizes(columns)
    none = add_constant(graph, f"{name}/zero_point", np.zeros_like(array_of(zero)))
    wide = add_node(activation, "DequantizeLinear", [columns, step, none], name=name, shape=shape)
    wide.dtype = ir.DataType.FLOAT
    for one in products:
        one.node.replace_input_with(0, wide)
        lengthen(graph, one, whole)
    return len(products)


def coarse(terms: NDArray[np.int64]) -> NDArray[np.int64]:
    """What the columns of 255 are to add up to; the column of 1 makes up for the rest, at most 127."""
    return np.rint(terms / WHOLE).astype(np.int64)


def last_of(sizes: Sizes) -> int:
    return known(sizes[-1:], "the value")[0]


def padded(graph: ir.Graph, before: ir.Node, value: ir.Value, count: int, number: int) -> ir.Value:
    """The value, with so many columns of one number behind."""
    if not count:
        return value
    sizes, name = require_sizes(value), value.name or "value"
    pads = np.zeros(2 * len(sizes), np.int64)
    pads[-1] = count
    filling = add_constant(graph, f"{name}/pad", np.asarray(number, np.uint8))
    inputs = [value, add_constant(graph, f"{name}/pads", pads), filling]
    shape = (*sizes[:-1], last_of(sizes) + count)
    return add_node(before, "Pad", inputs, name=beside(name, "Pad"), shape=shape)


def lengthen(graph: ir.Graph, one: Product, whole: int) -> None:
    """Give a product the rows for its t, and take its bias away."""
    weight, most = operands(one.weight)[0], coarse(one.terms)
    more = [*((most + part) // whole for part in range(whole)), one.terms - WHOLE * most]
    longer = np.concatenate([array_of(weight), *(row.astype(np.int8) for row in more)], axis=1)
    replace_constant(one.weight, 0, add_constant(graph, weight.name or "weight", longer))
    result(one.weight).shape = ir.Shape(longer.shape)
    if one.bias is not None:
        old = result(one.bias)
        substitute(old, result(one.node))
        take_name(result(one.node), old)
