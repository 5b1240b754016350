"""Writes an `Attention` node out: Attention(q, k, v) = softmax(s q kᵀ) v, for q, k and v [B, h, N, d]. For `lower`.

It refuses masks, caches, causal attention, capped scores, and other forms than [B, h, N, d].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.attributes import attribute, float_of
from paraexport.graph.edit import add_constant, add_node, replace_constant, substitute
from paraexport.graph.naming import beside
from paraexport.graph.query import bias_of, const, input_of, is_op, main_result, operands, read_once
from paraexport.graph.refusal import Refused
from paraexport.graph.shapes import require_numbers, require_sizes
from paraexport.rewrite.patterns.heads import check_attributes

MOVES = ("Gather", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class Factor:
    """A constant that must be scaled so that a value is scaled: a weight or a bias. It is input `index` of `node`."""

    node: ir.Node
    index: int
    array: NDArray[Any]


class WrittenOut:
    """A checked Attention node, which `write` replaces by softmax(s q kᵀ) v.

    Raises:
        Refused: the node does more than that, or has another form.
    """

    def __init__(self, node: ir.Node) -> None:
        self.node = node
        check_attributes(node)
        for name in ("is_causal", "softcap"):
            if attribute(node, name, 0):
                raise Refused(f"Attention has {name}, which cannot be written out")
        if len(operands(node)) != 3 or any(node.inputs[3:]):
            raise Refused("Attention has a mask or a cache; expected only query, key and value")
        self.shape = require_sizes(main_result(node, "another node reads the cache or the scores of Attention"))
        query, key, value = (require_sizes(source) for source in operands(node))
        if not len(query) == len(key) == len(value) == 4:
            raise Refused("Attention has inputs without a head axis; expected [B, h, N, d]")
        if not query[1] == key[1] == value[1] is not None:
            raise Refused("query, key and value of Attention differ in their number of heads")
        precision = attribute(node, "softmax_precision")
        if precision is not None and precision != operands(node)[0].dtype:
            raise Refused("the softmax of Attention has another precision than its inputs")
        (head_dim,) = require_numbers(query[-1:], "the size of a head")
        self.scale = float_of(node, "scale", 1 / math.sqrt(head_dim))
        self.factors = factors(operands(node)[0]) or factors(operands(node)[1])
        if operands(node)[0].dtype is None:
            raise Refused("the type of the queries of Attention is not known")

    def write(self, graph: ir.Graph) -> None:
        node, name = self.node, self.node.name or "Attention"
        query, key, value = operands(node)
        if self.scale != 1 and self.factors:
            for factor in self.factors:
                scaled = (factor.array.astype(np.float64) * self.scale).astype(factor.array.dtype)
                old = factor.node.inputs[factor.index]
                assert old is not None
                replace_constant(factor.node, factor.index, add_constant(graph, f"{old.name}.scaled", scaled))
        elif self.scale != 1:
            assert query.dtype is not None
            number = np.asarray(self.scale, query.dtype.numpy())
            inputs = [query, add_constant(graph, beside(name, "scale"), number)]
            query = add_node(node, "Mul", inputs, name=beside(name, "scaled_query"), shape=require_sizes(query))
        batch, heads, tokens, head_dim = require_sizes(key)
        swap = {"perm": [0, 1, 3, 2]}
        key_shape = (batch, heads, head_dim, tokens)
        key = add_node(node, "Transpose", [key], swap, name=beside(name, "turned_key"), shape=key_shape)
        shape = (*require_sizes(query)[:3], tokens)
        scores = add_node(node, "MatMul", [query, key], name=beside(name, "scores"), shape=shape)
        shares = add_node(node, "Softmax", [scores], {"axis": -1}, name=beside(name, "Softmax"), shape=shape)
        mixed = add_node(node, "MatMul", [shares, value], name=beside(name, "mixed"), shape=self.shape)
        substitute(node.outputs[0], mixed)


def factors(value: ir.Value) -> list[Factor]:
    """The constants that scale `value`: the weight and the biases of the product behind it.

    s (x W + b) = x (s W) + s b. Between the product and `value`, there may be nodes that only move numbers. No value on
    the way may have other readers. The list is empty if there is no such product.
    """
    constants: list[Factor] = []
    while read_once(value) and (node := value.producer()) is not None:
        if is_op(node, *MOVES):
            value = operands(node)[0]
        elif (bias := bias_of(node)) is not None:
            index = next(index for index, source in enumerate(node.inputs) if source is not bias[0])
            constants.append(Factor(node, index, bias[1]))
            value = bias[0]
        elif is_op(node, "MatMul") and (weight := const(input_of(node, 1))) is not None:
            return [*constants, Factor(node, 1, weight)]
        else:
            break
    return []
