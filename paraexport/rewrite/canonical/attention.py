"""Attention written out -> one `Attention` node: softmax(s (q a)(k b)ᵀ) v = Attention(q, k, v; scale = s a b).

The scale may stand before the product, on either side, or after it, as a Mul or a Div; kᵀ may be one Transpose with
that of the heads. q, k and v are [B, h, N, d].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from paraexport.graph.attributes import attribute, axis_of
from paraexport.graph.edit import add_node, clean, substitute, take_name
from paraexport.graph.naming import beside
from paraexport.graph.query import const, is_op, operands, opset_of, read_once, readers, result
from paraexport.graph.refusal import Applied, Refused
from paraexport.graph.shapes import dims, require_sizes

NAME = "attention"
MINIMUM_OPSET = 23
SWAPPED = [0, 1, 3, 2]


@dataclass(frozen=True, eq=False)
class Found:
    query: ir.Value
    turned_key: ir.Value
    """[B, h, d, N]."""
    value: ir.Value
    scale: float


def apply(graph: ir.Graph) -> Applied:
    """Counts the Attention nodes that were made."""
    applied = Applied(NAME)
    if opset_of(graph) < MINIMUM_OPSET:
        return applied
    for node in tuple(graph):
        if not is_op(node, "Softmax") or node.graph is None:
            continue
        try:
            mixing, found = match(node)
        except Refused as reason:
            applied.refuse(node, reason)
            continue
        if found is not None and mixing is not None:
            fuse(mixing, found)
            applied.times += 1
    clean(graph)
    return applied


def match(softmax: ir.Node) -> tuple[ir.Node | None, Found | None]:
    """The product by v and what goes into it; (None, None) where this is no attention.

    Raises:
        Refused: it is one, but does or shows more than Attention.
    """
    scores, shares = operands(softmax)[0], result(softmax)
    followers = readers(shares)
    product, factor = unscaled(scores)
    scoring = product.producer()
    if not any(is_op(node, "MatMul") for node in followers):
        return None, None
    if scoring is None or not is_op(scoring, "MatMul"):
        if scoring is not None and is_op(scoring, "Add", "Where"):
            raise Refused(f"{scoring.op_type} changes its scores, as a mask does")
        return None, None
    rank = len(dims(shares) or ())
    if rank != 4 or axis_of(softmax, rank, -1) != rank - 1:
        raise Refused(f"its scores have {rank or 'unknown'} axes, not [B, h, N, N]")
    inside = [scores, product, shares]
    if len(followers) != 1 or any(not read_once(value) for value in inside):
        raise Refused("its scores are read elsewhere as well")
    mixing = followers[0]
    if operands(mixing)[0] is not shares:
        return None, None
    query, left = unscaled(operands(scoring)[0])
    key, right = unscaled(operands(scoring)[1])
    value = operands(mixing)[1]
    sizes = [dims(one) for one in (query, key, value)]
    if any(size is None or len(size) != 4 or None in size[1:] for size in sizes):
        raise Refused("the shapes of its queries, keys or values are not known")
    heads = {size[1] for size in sizes if size is not None}
    if len(heads) != 1:
        raise Refused("its queries and keys differ in their number of heads")
    if len({require_sizes(one)[0] for one in (query, key, value)} - {None}) > 1:
        raise Refused("its queries, keys and values differ in their batch")
    return mixing, Found(query, key, value, as_attribute(factor * left * right, query.dtype))


def as_attribute(scale: float, dtype: ir.DataType | None) -> float:
    """The scale, which Attention keeps as a float32: where that rounds more than the graph, Refused."""
    kept = np.float32(scale)
    if not np.isfinite(kept) or kept == 0 or (dtype in {None, ir.DataType.DOUBLE} and float(kept) != scale):
        raise Refused(f"its scale {scale:g} is no float32, as that of Attention is")
    return scale


def unscaled(value: ir.Value) -> tuple[ir.Value, float]:
    """x and s of s · x, through any Mul and Div by one number; (value, 1) where there is none."""
    scale = 1.0
    while (node := value.producer()) is not None and is_op(node, "Mul", "Div") and read_once(value):
        if len(operands(node)) != 2:
            break
        one, other = operands(node)
        if is_op(node, "Mul") and const(one) is not None:
            one, other = other, one
        number = const(other)
        if number is None or number.size != 1 or const(one) is not None or dims(one) != dims(value):
            break
        if not number.all() or not np.isfinite(number.astype(np.float64)).all():
            break
        scale = scale * float(number.item()) if is_op(node, "Mul") else scale / float(number.item())
        value = one
    return value, scale


def fuse(mixing: ir.Node, found: Found) -> None:
    output = result(mixing)
    key = turned(mixing, found.turned_key)
    inputs = [found.query, key, found.value]
    name = beside(str(mixing.name), "Attention")
    made = add_node(mixing, "Attention", inputs, {"scale": found.scale}, name=name, shape=require_sizes(output))
    take_name(made, output)
    substitute(output, made)


def turned(before: ir.Node, key: ir.Value) -> ir.Value:
    """[B, h, d, N] -> [B, h, N, d], as one Transpose with the one that made it, or as what that one read."""
    batch, heads, size, length = require_sizes(key)
    shape = (batch, heads, length, size)
    node = key.producer()
    order, source = SWAPPED, key
    if node is not None and is_op(node, "Transpose"):
        inner = attribute(node, "perm")
        if isinstance(inner, list | tuple) and len(inner) == len(SWAPPED):
            order, source = [inner[axis] for axis in SWAPPED], operands(node)[0]
    elif (whole := through_samples(key)) is not None:
        return whole
    if order == sorted(order):
        return source
    return add_node(before, "Transpose", [source], {"perm": order}, name=f"{key.name}/Transpose", shape=shape)


def through_samples(key: ir.Value) -> ir.Value | None:
    """k of Reshape(Transpose(Reshape(k))), turned as [B·h, N, d]; None for anything else."""
    last = key.producer()
    middle = None if last is None or not is_op(last, "Reshape") else operands(last)[0].producer()
    first = None if middle is None or not is_op(middle, "Transpose") else operands(middle)[0].producer()
    if middle is None or first is None or not is_op(first, "Reshape"):
        return None
    source, merged, whole = operands(first)[0], dims(result(first)), dims(key)
    order, sizes = attribute(middle, "perm"), dims(source)
    if merged is None or whole is None or sizes is None or len(sizes) != 4 or len(merged) != 3:
        return None
    turned_back = whole[1:] == (sizes[1], sizes[3], sizes[2]) and merged[1:] == sizes[2:]
    is_swap = isinstance(order, list | tuple) and list(order) == [0, 2, 1]
    return source if turned_back and is_swap and None not in (*sizes[1:], *merged[1:]) else None
