"""Fuses written-out attention into one node: softmax(s (a q)(b k)ᵀ) v = Attention(q, k, v; scale = s a b).

q, k and v are [B, h, N, d]. The factors s, a and b may be Mul or Div nodes before or after the product. One Transpose
may both move the heads and transpose k. The step refuses a mask, other shapes, and scores with other readers.
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
class AttentionMatch:
    """The inputs of a written-out attention."""

    mixing: ir.Node
    """The product by v, which the new node replaces."""
    query: ir.Value
    transposed_key: ir.Value
    """[B, h, d, N]."""
    value: ir.Value
    scale: float


def apply(graph: ir.Graph) -> Applied:
    """Counts the new Attention nodes."""
    applied = Applied(NAME)
    if opset_of(graph) < MINIMUM_OPSET:
        return applied
    for node in tuple(graph):
        if not is_op(node, "Softmax") or node.graph is None:
            continue
        try:
            matched = match(node)
        except Refused as reason:
            applied.refuse(node, reason)
            continue
        if matched is not None:
            fuse(matched)
            applied.times += 1
    clean(graph)
    return applied


def match(softmax: ir.Node) -> AttentionMatch | None:
    """The attention around a Softmax; None if there is none.

    Raises:
        Refused: it is an attention that one Attention node cannot replace.
    """
    scores, shares = operands(softmax)[0], result(softmax)
    followers = readers(shares)
    product, factor = unscaled(scores)
    scoring = product.producer()
    if not any(is_op(node, "MatMul") for node in followers):
        return None
    if scoring is None or not is_op(scoring, "MatMul"):
        if scoring is not None and is_op(scoring, "Add", "Where"):
            raise Refused(f"{scoring.op_type} changes its scores, as a mask does; expected a product, or a scaled one")
        return None
    rank = len(dims(shares) or ())
    if rank != 4 or axis_of(softmax, rank, -1) != rank - 1:
        raise Refused(
            f"its scores have {rank or 'unknown'} axes; expected [B, h, N, N], with the softmax over the last"
        )
    inside = [scores, product, shares]
    if len(followers) != 1 or any(not read_once(value) for value in inside):
        raise Refused("its scores have another reader too")
    mixing = followers[0]
    if operands(mixing)[0] is not shares:
        return None
    query, left = unscaled(operands(scoring)[0])
    key, right = unscaled(operands(scoring)[1])
    value = operands(mixing)[1]
    sizes = [dims(source) for source in (query, key, value)]
    if any(size is None or len(size) != 4 or None in size[1:] for size in sizes):
        raise Refused("the shapes of its queries, keys or values are not known; expected [B, h, N, d]")
    heads = {size[1] for size in sizes if size is not None}
    if len(heads) != 1:
        raise Refused("its queries, keys and values differ in their number of heads")
    if len({require_sizes(source)[0] for source in (query, key, value)} - {None}) > 1:
        raise Refused("its queries, keys and values differ in their batch")
    return AttentionMatch(mixing, query, key, value, as_attribute(factor * left * right, query.dtype))


def as_attribute(scale: float, dtype: ir.DataType | None) -> float:
    """The scale, if the attribute of Attention, a float32, can hold it as exactly as the graph does.

    Raises:
        Refused: it cannot.
    """
    rounded = np.float32(scale)
    if not np.isfinite(rounded) or rounded == 0 or (dtype in {None, ir.DataType.DOUBLE} and float(rounded) != scale):
        raise Refused(f"its scale {scale:g} does not fit into the float32 attribute of Attention")
    return scale


def unscaled(value: ir.Value) -> tuple[ir.Value, float]:
    """(x, s) of s · x, through any chain of Mul and Div by one number; (value, 1) if there is none."""
    scale = 1.0
    while (node := value.producer()) is not None and is_op(node, "Mul", "Div") and read_once(value):
        if len(operands(node)) != 2:
            break
        source, factor = operands(node)
        if is_op(node, "Mul") and const(source) is not None:
            source, factor = factor, source
        number = const(factor)
        if number is None or number.size != 1 or const(source) is not None or dims(source) != dims(value):
            break
        if not number.all() or not np.isfinite(number.astype(np.float64)).all():
            break
        scale = scale * float(number.item()) if is_op(node, "Mul") else scale / float(number.item())
        value = source
    return value, scale


def fuse(matched: AttentionMatch) -> None:
    mixing, output = matched.mixing, result(matched.mixing)
    inputs = [matched.query, transpose_back(mixing, matched.transposed_key), matched.value]
    name = beside(str(mixing.name), "Attention")
    fused = add_node(mixing, "Attention", inputs, {"scale": matched.scale}, name=name, shape=require_sizes(output))
    take_name(fused, output)
    substitute(output, fused)


def transpose_back(before: ir.Node, key: ir.Value) -> ir.Value:
    """[B, h, d, N] -> [B, h, N, d]: merged with the Transpose before it, or the original k if that is enough."""
    batch, heads, size, length = require_sizes(key)
    shape = (batch, heads, length, size)
    node = key.producer()
    order, source = SWAPPED, key
    if node is not None and is_op(node, "Transpose"):
        inner = attribute(node, "perm")
        if isinstance(inner, list | tuple) and len(inner) == len(SWAPPED):
            order, source = [inner[axis] for axis in SWAPPED], operands(node)[0]
    elif (original := key_before_merging(key)) is not None:
        return original
    if order == sorted(order):
        return source
    return add_node(before, "Transpose", [source], {"perm": order}, name=f"{key.name}/Transpose", shape=shape)


def key_before_merging(key: ir.Value) -> ir.Value | None:
    """k of Reshape(Transpose(Reshape(k))), which transposes k as [B·h, N, d]; None for anything else."""
    last = key.producer()
    middle = None if last is None or not is_op(last, "Reshape") else operands(last)[0].producer()
    first = None if middle is None or not is_op(middle, "Transpose") else operands(middle)[0].producer()
    if middle is None or first is None or not is_op(first, "Reshape"):
        return None
    source, merged, after = operands(first)[0], dims(result(first)), dims(key)
    order, sizes = attribute(middle, "perm"), dims(source)
    if merged is None or after is None or sizes is None or len(sizes) != 4 or len(merged) != 3:
        return None
    only_swaps = after[1:] == (sizes[1], sizes[3], sizes[2]) and merged[1:] == sizes[2:]
    is_swap = isinstance(order, list | tuple) and list(order) == [0, 2, 1]
    return source if only_swaps and is_swap and None not in (*sizes[1:], *merged[1:]) else None
