"""What feeds an Attention node and what reads it, and which channel of the one is which channel of the other.

Between a projection and the node stand only views: a Reshape and a Transpose that cut the channels into heads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.attributes import attribute, int_of, ints_of
from paraexport.graph.query import const, input_of, is_op, main_result, only_reader, operands, read_once, result
from paraexport.graph.refusal import Refused
from paraexport.graph.shapes import dims, require_fixed

QUERY, KEY, VALUE = 0, 1, 2
TWO = 2
"""A batch that stands for every batch: with one sample, an axis of samples could pass for another."""


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
"""The attributes of `Attention`-23; later ones change what it computes."""


def check_attributes(attention: ir.Node) -> None:
    """Raise where the node has an attribute that the algebra here does not know, such as a window of keys."""
    if unknown := [name for name in attention.attributes if name not in KNOWN]:
        raise Refused(f"its attribute {unknown[0]} is not known")


def check_plain(attention: ir.Node) -> None:
    """Whether the node is softmax(q kᵀ · scale) v and nothing more, so that each row of weights sums to one.

    Raises:
        Refused: it has a mask, a cap of the scores, a cache, or gives out more than its result.
    """
    check_attributes(attention)
    if len(operands(attention)) != VALUE + 1:
        raise Refused("it has a mask or a cache")
    if int_of(attention, "is_causal", 0):
        raise Refused("it is causal")
    if attribute(attention, "softcap", 0.0):
        raise Refused("its scores are capped")
    main_result(attention, "its scores or its cache are read")


def views_before(value: ir.Value) -> tuple[ir.Value, list[ir.Node]]:
    """The value that `value` is a view of, and the views from there on, all read by one node only.

    Raises:
        Refused: something else reads one of them.
    """
    views: list[ir.Node] = []
    while True:
        if not read_once(value):
            raise Refused(f"{value.name} is read elsewhere as well")
        node = value.producer()
        if node is None or not is_view(node):
            return value, views[::-1]
        views.append(node)
        value = operands(node)[0]


def views_after(value: ir.Value) -> tuple[ir.Value, list[ir.Node]]:
    """The last view of `value`, and the views up to there, each the only reader of what is before it."""
    views: list[ir.Node] = []
    while (node := only_reader(value)) is not None and is_view(node) and operands(node)[0] is value:
        views.append(node)
        value = result(node)
    return value, views


def is_view(node: ir.Node) -> bool:
    return is_op(node, "Transpose") or (is_op(node, "Reshape") and const(input_of(node, 1)) is not None)


def channels_in_heads(source: ir.Value, views: list[ir.Node], attention: ir.Node) -> NDArray[np.intp]:
    """Which channel of `source` [B, N, C] stands where in an input of the node: [h, d], or [h·d] without heads.

    Raises:
        Refused: the views do not keep batch and tokens apart from the channels.
    """
    sizes = fixed_sizes(source)
    seen = through(np.broadcast_to(np.arange(sizes[-1]), sizes), views)
    token_axis = 1 if int_of(attention, "q_num_heads", 0) else 2
    if seen.ndim != (3 if token_axis == 1 else 4):
        raise Refused(f"its input has {seen.ndim} axes")
    return constant_along(seen, (0, token_axis))


def channels_after(heads: NDArray[np.intp], attention: ir.Node, views: list[ir.Node]) -> NDArray[np.intp]:
    """Which channel of the value projection each channel of the attention's result [B, N, C] is a mix of.

    Raises:
        Refused: heads of queries and values differ in number, or the views mix channels and tokens.
    """
    sizes = fixed_sizes(result_of(attention))
    if heads.ndim == 2:
        if sizes[1] != heads.shape[0]:
            raise Refused(f"{sizes[1]} heads of queries share {heads.shape[0]} heads of values")
        heads = heads[:, None]
    elif attribute(attention, "q_num_heads") != attribute(attention, "kv_num_heads"):
        raise Refused("several heads of queries share one of values")
    seen = through(np.broadcast_to(heads, sizes), views)
    return constant_along(seen, tuple(range(seen.ndim - 1)))


def result_of(attention: ir.Node) -> ir.Value:
    return attention.outputs[0]


def fixed_sizes(value: ir.Value) -> tuple[int, ...]:
    """The sizes of a value; a free batch stands as `TWO`, so that views can be tried on an array of that shape."""
    return require_fixed(value, TWO)


def through(array: NDArray[Any], views: list[ir.Node]) -> NDArray[Any]:
    for node in views:
        if is_op(node, "Transpose"):
            array = transposed(array, node)
        else:
            array = reshaped(array, node)
    return array


def transposed(array: NDArray[Any], node: ir.Node) -> NDArray[Any]:
    order = ints_of(node, "perm", tuple(reversed(range(array.ndim))))
    if sorted(order) != [*range(array.ndim)]:
        raise Refused(f"{node.name} orders the axes {list(order)} of {array.ndim}")
    return array.transpose(order)


def reshaped(array: NDArray[Any], node: ir.Node) -> NDArray[Any]:
    shape = const(input_of(node, 1))
    if shape is None:
        raise Refused(f"the sizes of {node.name} are not constant")
    copies = not int_of(node, "allowzero", 0)
    try:
        sizes = [array.shape[axis] if size == 0 and copies else int(size) for axis, size in enumerate(shape)]
        return array.reshape(sizes)
    except (ValueError, IndexError) as error:
        raise Refused(f"{node.name} reshapes to {shape.tolist()}, which ties the batch") from error


def constant_along(array: NDArray[Any], axes: tuple[int, ...]) -> NDArray[np.intp]:
    """The array without `axes`, along which it must not vary."""
    first = array[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(array.ndim))]
    if (array != first).any():
        raise Refused("the views before or after it mix channels with tokens")
    return first.squeeze(axes)


def scale_of_scores(attention: ir.Node) -> float:
    """What the node multiplies q kᵀ by: its attribute, or else 1/√d.

    Raises:
        Refused: d is not known.
    """
    given, heads = attribute(attention, "scale"), int_of(attention, "q_num_heads", 1)
    if isinstance(given, float):
        return given
    *_, size = dims(operands(attention)[QUERY]) or (None,)
    if not size or not heads:
        raise Refused("the size of a head is not known")
    return float((size / heads) ** -0.5)
