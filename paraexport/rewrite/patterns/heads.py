"""Follows channels through an Attention node: from the projections before it to the products after it.

Between a projection [B, N, h·d] and the node [B, h, N, d] there are only views: a Reshape and a Transpose. To follow a
channel, the functions here number the channels and apply the views to these numbers with numpy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.attributes import attribute, int_of, ints_of
from paraexport.graph.query import const, input_of, is_op, main_result, only_reader, operands, read_once, result
from paraexport.graph.refusal import Refused, node_label
from paraexport.graph.shapes import dims, require_fixed

QUERY, KEY, VALUE = 0, 1, 2
TWO = 2
"""The batch in these arrays. With 1 sample, the axis of samples would look like any other axis of length 1."""


KNOWN = frozenset(
    {
        "is_causal",
        "kv_num_heads",
        "q_num_heads",
        "qk_matmul_output_mode",
        "scale",
        "softcap",
        "softmax_precision",
    }
)
"""The attributes of `Attention`-23. Attributes of later versions change what the node computes."""


def check_attributes(attention: ir.Node) -> None:
    """Refuse a node with an attribute that the algebra does not consider, such as a window of keys."""
    if unknown := [name for name in attention.attributes if name not in KNOWN]:
        raise Refused(f"its attribute {unknown[0]} is not one of `Attention`-23")


def check_plain(attention: ir.Node) -> None:
    """Check that the node is softmax(q kᵀ · scale) v and nothing more, so that each row of weights sums to one.

    Raises:
        Refused: it has a mask, a cache, capped scores, or other outputs that are read.
    """
    check_attributes(attention)
    if len(operands(attention)) != VALUE + 1:
        raise Refused("it has a mask or a cache; expected only query, key and value")
    if int_of(attention, "is_causal", 0):
        raise Refused("it is causal; expected every query to see all keys")
    if attribute(attention, "softcap", 0.0):
        raise Refused("it has softcap, which limits its scores")
    main_result(attention, "another node reads its scores or its cache")


def views_before(value: ir.Value) -> tuple[ir.Value, list[ir.Node]]:
    """The value before all views, and the views from there to `value`. Each value has one reader.

    Raises:
        Refused: one of these values has other readers.
    """
    views: list[ir.Node] = []
    while True:
        if not read_once(value):
            raise Refused(f"{value.name} has other readers too")
        node = value.producer()
        if node is None or not is_view(node):
            return value, views[::-1]
        views.append(node)
        value = operands(node)[0]


def views_after(value: ir.Value) -> tuple[ir.Value, list[ir.Node]]:
    """The value after all views of `value`, and these views. Each view is the only reader of the value before it."""
    views: list[ir.Node] = []
    while (node := only_reader(value)) is not None and is_view(node) and operands(node)[0] is value:
        views.append(node)
        value = result(node)
    return value, views


def is_view(node: ir.Node) -> bool:
    """Whether the node is a Transpose, or a Reshape with a constant target."""
    return is_op(node, "Transpose") or (is_op(node, "Reshape") and const(input_of(node, 1)) is not None)


def channels_in_heads(source: ir.Value, views: list[ir.Node], attention: ir.Node) -> NDArray[np.intp]:
    """The channel of `source` [B, N, C] at each place of an input of the node: [h, d], or [h·d] without a head axis.

    Raises:
        Refused: the views mix the channels with batch or tokens.
    """
    sizes = fixed_sizes(source)
    channels = apply_views(np.broadcast_to(np.arange(sizes[-1]), sizes), views)
    token_axis = 1 if int_of(attention, "q_num_heads", 0) else 2
    rank = 3 if token_axis == 1 else 4
    if channels.ndim != rank:
        raise Refused(f"its input has {channels.ndim} axes; expected {rank}")
    return constant_along(channels, (0, token_axis))


def channels_after(heads: NDArray[np.intp], attention: ir.Node, views: list[ir.Node]) -> NDArray[np.intp]:
    """The channel of the value projection behind each channel of the attention's result, after `views` [B, N, C].

    `heads` is the result of `channels_in_heads` for the values. Attention mixes tokens, but never channels.

    Raises:
        Refused: queries and values differ in their number of heads, or the views mix channels and tokens.
    """
    sizes = fixed_sizes(result_of(attention))
    if heads.ndim == 2:
        if sizes[1] != heads.shape[0]:
            raise Refused(f"{sizes[1]} query heads share {heads.shape[0]} value heads; expected the same number")
        heads = heads[:, None]
    elif attribute(attention, "q_num_heads") != attribute(attention, "kv_num_heads"):
        raise Refused("several query heads share one value head")
    channels = apply_views(np.broadcast_to(heads, sizes), views)
    return constant_along(channels, tuple(range(channels.ndim - 1)))


def result_of(attention: ir.Node) -> ir.Value:
    return attention.outputs[0]


def fixed_sizes(value: ir.Value) -> tuple[int, ...]:
    """The sizes of a value, with `TWO` for a free batch, so that views can be applied to an array of this shape."""
    return require_fixed(value, TWO)


def apply_views(array: NDArray[Any], views: list[ir.Node]) -> NDArray[Any]:
    for node in views:
        if is_op(node, "Transpose"):
            array = transposed(array, node)
        else:
            array = reshaped(array, node)
    return array


def transposed(array: NDArray[Any], node: ir.Node) -> NDArray[Any]:
    order = ints_of(node, "perm", tuple(reversed(range(array.ndim))))
    if sorted(order) != [*range(array.ndim)]:
        raise Refused(f"the perm {list(order)} of {node_label(node)} does not fit a value with {array.ndim} axes")
    return array.transpose(order)


def reshaped(array: NDArray[Any], node: ir.Node) -> NDArray[Any]:
    shape = const(input_of(node, 1))
    if shape is None:
        raise Refused(f"the target of {node_label(node)} is not constant")
    copies = not int_of(node, "allowzero", 0)
    try:
        sizes = [array.shape[axis] if size == 0 and copies else int(size) for axis, size in enumerate(shape)]
        return array.reshape(sizes)
    except (ValueError, IndexError) as error:
        raise Refused(
            f"{node_label(node)} reshapes to {shape.tolist()}, which is not possible with a free batch"
        ) from error


def constant_along(array: NDArray[Any], axes: tuple[int, ...]) -> NDArray[np.intp]:
    """The array without `axes`.

    Raises:
        Refused: it varies along one of them.
    """
    first = array[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(array.ndim))]
    if (array != first).any():
        raise Refused("a Reshape or Transpose next to it mixes channels with tokens or the batch")
    return first.squeeze(axes)


def scale_of_scores(attention: ir.Node) -> float:
    """The factor of q kᵀ: the attribute `scale`, or 1/√d without it.

    Raises:
        Refused: the size d of a head is not known.
    """
    given, heads = attribute(attention, "scale"), int_of(attention, "q_num_heads", 1)
    if isinstance(given, float):
        return given
    *_, size = dims(operands(attention)[QUERY]) or (None,)
    if not size or not heads:
        raise Refused("the size of a head is not known")
    return float((size / heads) ** -0.5)
