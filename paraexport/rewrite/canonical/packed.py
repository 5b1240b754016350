"""A packed product taken apart: y = x [W_1 | W_2 | …] of which parts are read is x W_1, x W_2, …

Which columns a part reads is told from the views and selections between the product and the part, whatever their
order: Split or Slices of [B, N, 3·h·d], one index of [B, N, 3, h, d] before or after a Transpose, columns in any order.
Each part becomes the product by its columns, and a Reshape and Transpose that put them where they stood.
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
from paraexport.graph.refusal import Applied, Refused
from paraexport.rewrite.patterns.heads import TWO, fixed_sizes, reshaped, transposed
from paraexport.rewrite.patterns.products import Product, channels, product_of

NAME = "packed"
VIEWS = ("Reshape", "Transpose", "Squeeze", "Unsqueeze")
SELECTIONS = ("Split", "Slice", "Gather")
Indices = NDArray[np.int64]
MOST_NUMBERS = 2**27
"""Their places take 1 GiB."""


@dataclass(frozen=True, eq=False)
class Part:
    """A value that holds some columns of a product."""

    value: ir.Value
    columns: Indices
    """One for each channel of the part, shaped as its axes are without those of batch and tokens."""
    batch_axis: int
    token_axis: int


def apply(graph: ir.Graph) -> Applied:
    """Counts the products that were taken apart."""
    applied = Applied(NAME)
    for node in tuple(graph):
        product = product_of(node) if is_op(node, "MatMul") else None
        if product is None or not leads_to_selection(product.output):
            continue
        try:
            parts = parts_of(product)
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
    """Whether the value is cut, at once or behind views."""
    pending = [value]
    while pending:
        for node in readers(pending.pop()):
            if is_op(node, *SELECTIONS):
                return True
            pending.extend(node.outputs if is_op(node, *VIEWS) else ())
    return False


def parts_of(product: Product) -> list[Part]:
    """The parts of a product that are read, or none where it is read whole or cut along other axes.

    Raises:
        Refused: it is packed, but in a way that cannot be told.
    """
    output = product.output
    if output.is_graph_output() or product.node.outputs[0].is_graph_output():
        return []
    sizes = fixed_sizes(output)
    if len(sizes) != 3:
        return []
    if np.prod(sizes, dtype=float) > MOST_NUMBERS:
        raise Refused(f"{output.name} has too many numbers to follow each of them")
    channels(product.bias if product.bias is not None else np.zeros(1), sizes[-1])
    places = np.arange(np.prod(sizes), dtype=np.int64).reshape(sizes)
    found = [located(value, seen, sizes) for value, seen in leaves(output, places)]
    parts = [part for part in found if part is not None]
    whole = any(part.columns.size == sizes[-1] for part in parts)
    return parts if len(parts) == len(found) > 1 and not whole else []


def leaves(value: ir.Value, places: Indices) -> Iterator[tuple[ir.Value, Indices]]:
    """What views and one selection make of a value, each with the place in the product of each of its numbers."""
    pending = [(value, places)]
    while pending:
        value, places = pending.pop()
        if value.is_graph_output():
            raise Refused(f"{value.name} is an output of the graph as well")
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
        raise Refused(f"the sizes or axes of {node.name} are not constant")
    if is_op(node, "Reshape"):
        return reshaped(places, node)
    over = tuple(int(axis) for axis in axes.ravel())
    try:
        return places.squeeze(over) if is_op(node, "Squeeze") else np.expand_dims(places, over)
    except ValueError as error:
        raise Refused(f"{node.name} drops or adds the axes {list(over)}, which ties the batch") from error


def selected(places: Indices, node: ir.Node) -> Iterator[tuple[ir.Value, Indices]]:
    given = [None if value is None else const(value) for value in node.inputs[1:]]
    if any(array is None and value is not None for array, value in zip(given, node.inputs[1:], strict=True)):
        raise Refused(f"what {node.name} takes is not constant")
    try:
        pieces = taken(places, node, given)
    except (ValueError, IndexError) as error:
        raise Refused(f"what {node.name} takes is not there, or ties the batch") from error
    if any(piece.size == 0 for piece in pieces):
        raise Refused(f"{node.name} takes nothing")
    yield from zip(node.outputs, pieces, strict=True)


def taken(places: Indices, node: ir.Node, given: list[NDArray[Any] | None]) -> list[Indices]:
    """What each output of a selection holds."""
    if is_op(node, "Slice"):
        return [sliced(places, given)]
    axis, first = int_of(node, "axis", 0), given[0] if given else None
    if is_op(node, "Gather"):
        if first is None:
            raise Refused(f"{node.name} has no indices")
        return [places.take(first, axis)]
    if "split" in node.attributes:
        raise Refused(f"{node.name} is a Split from before opset 13")
    length, count = places.shape[axis], len(node.outputs)
    lengths = [-(-length // count)] * count if first is None else first.tolist()
    pieces = np.split(places, np.cumsum(lengths)[:-1], axis)
    if first is not None and [piece.shape[axis] for piece in pieces] != lengths:
        raise Refused(f"{node.name} splits {length} into {lengths}")
    return pieces


def sliced(places: Indices, given: list[NDArray[Any] | None]) -> Indices:
    if len(given) < 2:
        raise Refused("it is a Slice from before opset 10")
    starts, ends, over, steps = ([] if array is None else array.tolist() for array in [*given, None, None][:4])
    index = [slice(None)] * places.ndim
    for start, end, axis, step in zip(
        starts, ends, over or range(len(starts)), steps or [1] * len(starts), strict=True
    ):
        if step < 1:
            raise Refused("it is read backwards")
        index[axis] = slice(start, end, step)
    return places[tuple(index)]


def squeezed(value: ir.Value, places: Indices) -> tuple[ir.Value, Indices]:
    """The value behind a Squeeze that is all that reads this one."""
    following = readers(value)
    if len(following) == 1 and is_op(following[0], "Squeeze") and not value.is_graph_output():
        return following[0].outputs[0], viewed(places, following[0])
    return value, places


def located(value: ir.Value, places: Indices, sizes: tuple[int, ...]) -> Part | None:
    """The part that a value is, or None where it has not each column for every sample and token."""
    batch, token, column = np.unravel_index(places, sizes)
    batch_axes, token_axes = (varying(array) for array in (batch, token))
    if len(batch_axes) != 1 or len(token_axes) != 1 or batch_axes == token_axes:
        return None
    ((batch_axis,), (token_axis,)) = batch_axes, token_axes
    along = {batch_axis: TWO, token_axis: sizes[1]}
    if any(places.shape[axis] != length for axis, length in along.items()) or set(varying(column)) & along.keys():
        return None
    columns = column[tuple(0 if axis in along else slice(None) for axis in range(places.ndim))]
    order = [array.min(axis=tuple(other for other in range(places.ndim) if other != axis), keepdims=False)
             for array, axis in ((batch, batch_axis), (token, token_axis))]  # fmt: skip
    in_order = all((numbers == np.arange(len(numbers))).all() for numbers in order)
    return Part(value, columns, batch_axis, token_axis) if in_order else None


def varying(array: NDArray[np.intp]) -> list[int]:
    """The axes along which an array is not the same."""
    return [axis for axis in range(array.ndim) if (array != array.take([0], axis)).any()]


def separate(graph: ir.Graph, product: Product, part: Part) -> None:
    """Compute a part by a product of its own."""
    value = part.value
    before = value.producer()
    assert before is not None
    lead = list(product.output.shape or ())[:2]
    lead_sizes = [size if isinstance(size, int) else size.value for size in lead]
    flat = part.columns.ravel()
    shape = (*lead_sizes, flat.size)
    name = str(value.name)
    weight = add_constant(graph, f"{name}/weight", product.weight[:, flat])
    made = add_node(before, "MatMul", [product.source, weight], name=f"{name}/MatMul", shape=shape)
    if product.bias is not None:
        taken = product.bias if product.bias.size == 1 else product.bias.reshape(-1)[flat]
        bias = add_constant(graph, f"{name}/bias", taken)
        made = add_node(before, "Add", [made, bias], name=f"{name}/Add", shape=shape)
    rest = part.columns.shape
    if len(rest) != 1:
        target = add_constant(graph, f"{name}/shape", np.array([-1, lead_sizes[1], *rest], np.int64))
        cut = (*lead_sizes, *rest)
        made = add_node(before, "Reshape", [made, target], {"allowzero": 0}, name=f"{name}/Reshape", shape=cut)
    # The axes of [B, N, …rest] in the order in which the part has them.
    others = iter(range(2, 2 + len(rest)))
    place = {part.batch_axis: 0, part.token_axis: 1}
    order = [place[axis] if axis in place else next(others) for axis in range(2 + len(rest))]
    if order != sorted(order):
        turned = [(*lead_sizes, *rest)[axis] for axis in order]
        made = add_node(before, "Transpose", [made], {"perm": order}, name=f"{name}/Transpose", shape=turned)
    if not value.is_graph_output():
        take_name(made, value)
    substitute(value, made)
