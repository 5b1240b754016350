"""Removes the key bias of attention, and moves the value bias into the output projection.

Key: q·(k_j + b) = q·k_j + q·b. It adds one number to a whole row of scores, and softmax(s + c) = softmax(s).
Value: Σ_j a_j (v_j + b) = Σ_j a_j v_j + b, because the weights a_j of a row sum to one. So b_out ← b_out + b W_out.

q, k and v are [B, h, N, d]. The pass applies to plain Attention nodes: without a mask, a cache or capped scores. It
refuses a bias that varies along tokens, and a value bias if something else than products by constants reads the result.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from paraexport.graph.edit import clean, substitute
from paraexport.graph.query import bias_of, is_op, operands
from paraexport.graph.refusal import Applied, Refused
from paraexport.graph.shapes import dims, unknown_shape
from paraexport.rewrite.patterns.heads import (
    KEY,
    VALUE,
    channels_after,
    channels_in_heads,
    check_plain,
    result_of,
    views_after,
    views_before,
)
from paraexport.rewrite.patterns.products import channels, require_only_products, set_bias

NAME = "biases"


def apply(graph: ir.Graph) -> Applied:
    """Counts the biases that were removed or moved."""
    applied = Applied(NAME)
    for node in list(graph):
        if is_op(node, "Attention"):
            for rule in (drop_key_bias, move_value_bias):
                try:
                    applied.times += rule(node)
                except Refused as reason:
                    applied.refuse(node, f"{rule.__name__}: {reason}")
    clean(graph)
    return applied


def drop_key_bias(attention: ir.Node) -> bool:
    """Make the node read its keys without their bias. Returns whether they had one."""
    key, views = views_before(operands(attention)[KEY])
    added = bias_of(key.producer())
    if added is None:
        return False
    check_plain(attention)
    channels(added[1], width(key))
    channels_in_heads(key, views, attention)
    substitute(key, added[0])
    return True


def move_value_bias(attention: ir.Node) -> bool:
    """Make the node read its values without their bias, and add it to the products after the node.

    Returns whether the values had a bias.
    """
    value, views = views_before(operands(attention)[VALUE])
    added = bias_of(value.producer())
    if added is None:
        return False
    check_plain(attention)
    bias = channels(added[1], width(value))
    heads = channels_in_heads(value, views, attention)
    mixed, views = views_after(result_of(attention))
    products = require_only_products(mixed)
    sources = channels_after(heads, attention, views)
    for product in products:
        moved = bias[sources] @ product.weight.astype(np.float64)
        set_bias(product, moved if product.bias is None else moved + product.bias)
    substitute(value, added[0])
    return True


def width(value: ir.Value) -> int:
    """The number of channels of a value [B, N, C]."""
    *_, size = dims(value) or (None,)
    if size is None:
        raise unknown_shape(value)
    return size
