"""The `Attention` operator written out as two products and a softmax."""

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
    """A constant that a value is proportional to: an input of a product, or a bias."""

    node: ir.Node
    index: int
    array: NDArray[Any]


class WrittenOut:
    """softmax(s q kᵀ) v in the place of an Attention of q, k, v [B, h, N, d].

    Raises:
        Refused: the node does more than that.
    """

    def __init__(self, node: ir.Node) -> None:
        self.node = node
        check_attributes(node)
        for name in ("is_causal", "softcap"):
            if attribute(node, name, 0):
                raise Refused(f"Attention with {name}")
        if len(operands(node)) != 3 or any(node.inputs[3:]):
            raise Refused("Attention with a mask or a cache")
        self.shape = require_sizes(main_result(node, "Attention whose cache or scores are read"))
        query, key, value = (require_sizes(source) for source in operands(node))
        if not len(query) == len(key) == len(value) == 4:
            raise Refused("Attention of inputs [B, N, h·d]")
        if not query[1] == key[1] == value[1] is not None:
            raise Refused("Attention whose queries have more heads than its keys")
        precision = attribute(node, "softmax_precision")
        if precision is not None and precision != operands(node)[0].dtype:
            raise Refused("Attention whose softmax has another precision")
        (head_dim,) = require_numbers(query[-1:], "a head")
        self.scale = float_of(node, "scale", 1 / math.sqrt(head_dim))
        self.factors = factors(operands(node)[0]) or factors(operands(node)[1])
        if operands(node)[0].dtype is None:
            raise Refused("Attention of queries whose type is not known")

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
            both = [query, add_constant(graph, beside(name, "scale"), number)]
            query = add_node(node, "Mul", both, name=beside(name, "scaled_query"), shape=require_sizes(query))
        batch, heads, tokens, head_dim = require_sizes(key)
        turned = {"perm": [0, 1, 3, 2]}
        key_shape = (batch, heads, head_dim, tokens)
        key = add_node(node, "Transpose", [key], turned, name=beside(name, "turned_key"), shape=key_shape)
        shape = (*require_sizes(query)[:3], tokens)
        scores = add_node(node, "MatMul", [query, key], name=beside(name, "scores"), shape=shape)
        shares = add_node(node, "Softmax", [scores], {"axis": -1}, name=beside(name, "Softmax"), shape=shape)
        mixed = add_node(node, "MatMul", [shares, value], name=beside(name, "mixed"), shape=self.shape)
        substitute(node.outputs[0], mixed)


def factors(value: ir.Value) -> list[Factor]:
    """The constants to multiply by s so that `value` is, through nodes that nobody else reads; none where unknown."""
    found: list[Factor] = []
    while read_once(value) and (node := value.producer()) is not None:
        if is_op(node, *MOVES):
            value = operands(node)[0]
        elif (bias := bias_of(node)) is not None:
            index = next(index for index, source in enumerate(node.inputs) if source is not bias[0])
            found.append(Factor(node, index, bias[1]))
            value = bias[0]
        elif is_op(node, "MatMul") and (weight := const(input_of(node, 1))) is not None:
            return [*found, Factor(node, 1, weight)]
        else:
            break
    return []
