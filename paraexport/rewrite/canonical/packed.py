"""Separates a packed product: the parts of x [W_1 | W_2 | …] become the products x W_1, x W_2, …

x is [B, N, D]. Typical parts are query, key and value: a Split or Slices of [B, N, 3·h·d], or one index of
[B, N, 3, h, d] before or after a Transpose. Views and selections may come in any order, with columns in any order.

To find the columns of a part, the step gives every number of the product its place, and applies the views and
selections to these places with numpy. Each part then becomes the product by its columns, and a Reshape and a Transpose
restore its axes. The step refuses selections that depend on the input, and views that mix the batch with other axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.attributes import int_of
from paraexport.graph.edit import add_constant, add_node, clean, substitute, take_name
from paraexport.graph.query import const, input_of, is_op, operands, readers
from paraexport.graph.refusal import Applied, Refused, node_label
from paraexport.graph.shapes import named_sizes
from paraexport.rewrite.canonical.integers import slice_index
from paraexport.rewrite.patterns.heads import TWO, fixed_sizes, reshaped, transposed
from paraexport.rewrite.patterns.products import Product, channels, product_of

NAME = "packed"
VIEWS = ("Reshape", "Transpose", "Squeeze", "Unsqueeze")
SELECTIONS = ("Split", "Slice", "Gather")
Indices = NDArray[np.int64]
MOST_NUMBERS = 2**27
"""The places of more numbers would take more than 1 GiB."""


@dataclass(frozen=True, eq=False)
class ColumnView:
    """A value that holds some columns of a product."""

    value: ir.Value
    columns: Indices
    """The column of each channel. The axes are those of the value, without batch and tokens."""
    batch_axis: int
    token_axis: int


def apply(graph: ir.Graph) -> Applied:
    """Counts the products that were separated."""
    applied = Applied(NAME)
    for node in tuple(graph):
        product = product_of(node) if is_op(node, "MatMul") else None
        if product is None or not leads_to_selection(product.output):
            continue
        try:
            parts = column_views(product)
        except Refused as reason:
            applied.refuse(node, reason)
            continue
        if parts:
            for part in parts:
                separate(graph, product, part)
            applied.times += 1
    clean(graph)
    return applied


def leads_to_selection(value: ir.Value) -> bool:
    """Whether a selection reads the value, directly or through views."""
    pending = [value]
    while pending:
        for node in readers(pending.pop()):
            if is_op(node, *SELECTIONS):
                return True
            pending.extend(node.outputs if is_op(node, *VIEWS) else ())
    return False


def column_views(product: Product) -> list[ColumnView]:
    """The parts of a packed product; none if it is read as a whole, or cut along other axes.

    Raises:
        Refused: the columns of a part cannot be found.
    """
    output = product.output
    if output.is_graph_output() or product.node.outputs[0].is_graph_output():
        return []
    sizes = fixed_sizes(output)
    if len(sizes) != 3:
        return []
    if np.prod(sizes, dtype=float) > MOST_NUMBERS:
        raise Refused(f"{output.name} has more than {MOST_NUMBERS} numbers, too many to follow each of them")
    channels(product.bias if product.bias is not None else np.zeros(1), sizes[-1])
    places = np.arange(np.prod(sizes), dtype=np.int64).reshape(sizes)
    candidates = [column_view(value, value_places, sizes) for value, value_places in leaves(output, places)]
    parts = [part for part in candidates if part is not None]
    is_read_whole = any(part.columns.size == sizes[-1] for part in parts)
    return parts if len(parts) == len(candidates) > 1 and not is_read_whole else []


def leaves(value: ir.Value, places: Indices) -> Iterator[tuple[ir.Value, Indices]]:
    """The values behind the views and the first selection, with the place in the product of each of their numbers."""
    pending = [(value, places)]
    while pending:
        value, places = pending.pop()
        if value.is_graph_output():
            raise Refused(f"{value.name} is also an output of the graph")
        for node in readers(value):
            if is_op(node, *VIEWS) and operands(node)[0] is value:
                pending.append((node.outputs[0], viewed(places, node)))
            elif is_op(node, *SELECTIONS) and operands(node)[0] is value:
                yield from (squeezed(*piece) for piece in selected(places, node))
            else:
                yield value, places


def viewed(places: Indices, node: ir.Node) -> Indices:
    if is_op(node, "Transpose"):
        return transposed(places, node)
    axes = const(input_of(node, 1))
    if axes is None:
        raise Refused(f"the target sizes or axes of {node_label(node)} are not constant")
    if is_op(node, "Reshape"):
        return reshaped(places, node)
    over = tuple(int(axis) for axis in axes.ravel())
    try:
        return places.squeeze(over) if is_op(node, "Squeeze") else np.expand_dims(places, over)
    except ValueError as error:
        raise Refused(
            f"{node_label(node)} removes or adds the axes {list(over)}, which is not possible with a free batch"
        ) from error


def selected(places: Indices, node: ir.Node) -> Iterator[tuple[ir.Value, Indices]]:
    given = [None if value is None else const(value) for value in node.inputs[1:]]
    if any(array is None and value is not None for array, value in zip(given, node.inputs[1:], strict=True)):
        raise Refused(f"the selection of {node_label(node)} is not constant")
    try:
        pieces = selected_places(places, node, given)
    except (ValueError, IndexError) as error:
        raise Refused(
            f"{node_label(node)} selects entries that do not exist, or do not exist for every batch"
        ) from error
    if any(piece.size == 0 for piece in pieces):
        raise Refused(f"{node_label(node)} selects nothing")
    yield from zip(node.outputs, pieces, strict=True)


def selected_places(places: Indices, node: ir.Node, given: list[NDArray[Any] | None]) -> list[Indices]:
    """The places of each output of a selection."""
    if is_op(node, "Slice"):
        return [sliced(places, given)]
    axis, first = int_of(node, "axis", 0), given[0] if given else None
    if is_op(node, "Gather"):
        if first is None:
            raise Refused(f"{node_label(node)} has no indices")
        return [places.take(first, axis)]
    if "split" in node.attributes:
        raise Refused(f"{node_label(node)} is a Split of an opset before 13")
    length, count = places.shape[axis], len(node.outputs)
    lengths = [-(-length // count)] * count if first is None else first.tolist()
    pieces = np.split(places, np.cumsum(lengths)[:-1], axis)
    if first is not None and [piece.shape[axis] for piece in pieces] != lengths:
        raise Refused(f"{node_label(node)} splits {length} entries into parts of {lengths}")
    return pieces


def sliced(places: Indices, given: list[NDArray[Any] | None]) -> Indices:
    if len(given) < 2:
        raise Refused("it is read by a Slice of an opset before 10")
    starts, ends, over, steps = ([] if array is None else array.tolist() for array in [*given, None, None][:4])
    return places[slice_index(places.ndim, starts, ends, over, steps)]


def squeezed(value: ir.Value, places: Indices) -> tuple[ir.Value, Indices]:
    """The value and its places, behind the Squeeze if that is the only reader."""
    following = readers(value)
    if len(following) == 1 and is_op(following[0], "Squeeze") and not value.is_graph_output():
        return following[0].outputs[0], viewed(places, following[0])
    return value, places


def column_view(value: ir.Value, places: Indices, sizes: tuple[int, ...]) -> ColumnView | None:
    """The part that a value holds, or None if it does not have the same columns for every sample and token, in order.

    A place is an index into [B, N, C], so it gives a sample, a token and a column. Samples must vary along one axis of
    the value only, and tokens along one other axis. The columns vary along the remaining axes.
    """
    batch, token, column = np.unravel_index(places, sizes)
    batch_axes, token_axes = (varying(array) for array in (batch, token))
    if len(batch_axes) != 1 or len(token_axes) != 1 or batch_axes == token_axes:
        return None
    ((batch_axis,), (token_axis,)) = batch_axes, token_axes
    along = {batch_axis: TWO, token_axis: sizes[1]}
    if any(places.shape[axis] != length for axis, length in along.items()) or set(varying(column)) & along.keys():
        return None
    columns = column[tuple(0 if axis in along else slice(None) for axis in range(places.ndim))]
    order = [array.min(axis=tuple(rest for rest in range(places.ndim) if rest != axis), keepdims=False)
             for array, axis in ((batch, batch_axis), (token, token_axis))]  # fmt: skip
    in_order = all((numbers == np.arange(len(numbers))).all() for numbers in order)
    return ColumnView(value, columns, batch_axis, token_axis) if in_order else None


def varying(array: NDArray[np.intp]) -> list[int]:
    """The axes along which an array varies."""
    return [axis for axis in range(array.ndim) if (array != array.take([0], axis)).any()]


def separate(graph: ir.Graph, product: Product, part: ColumnView) -> None:
    """Compute a part with its own product."""
    value = part.value
    before = value.producer()
    assert before is not None
    lead_sizes = (named_sizes(product.output) or [])[:2]
    flat = part.columns.ravel()
    shape = (*lead_sizes, flat.size)
    name = str(value.name)
    weight = add_constant(graph, f"{name}/weight", product.weight[:, flat])
    new = add_node(before, "MatMul", [product.source, weight], name=f"{name}/MatMul", shape=shape)
    if product.bias is not None:
        numbers = product.bias if product.bias.size == 1 else product.bias.reshape(-1)[flat]
        bias = add_constant(graph, f"{name}/bias", numbers)
        new = add_node(before, "Add", [new, bias], name=f"{name}/Add", shape=shape)
    rest = part.columns.shape
    if len(rest) != 1:
        target = add_constant(graph, f"{name}/shape", np.array([-1, lead_sizes[1], *rest], np.int64))
        cut = (*lead_sizes, *rest)
        new = add_node(before, "Reshape", [new, target], {"allowzero": 0}, name=f"{name}/Reshape", shape=cut)
    # `order` puts the axes of [B, N, *rest] where the part has them: batch and tokens at their axes, the rest between.
    rest_axes = iter(range(2, 2 + len(rest)))
    lead_axes = {part.batch_axis: 0, part.token_axis: 1}
    order = [lead_axes[axis] if axis in lead_axes else next(rest_axes) for axis in range(2 + len(rest))]
    if order != sorted(order):
        transposed_shape = [(*lead_sizes, *rest)[axis] for axis in order]
        new = add_node(before, "Transpose", [new], {"perm": order}, name=f"{name}/Transpose", shape=transposed_shape)
    if not value.is_graph_output():
        take_name(new, value)
    substitute(value, new)
