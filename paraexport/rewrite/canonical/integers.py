"""Computes the integers that a graph derives from shapes, as far as they are known before it runs.

An entry is a number, the name of a free length (`batch`), or None if nothing is known about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.attributes import attribute, int_of
from paraexport.graph.query import const, is_op, operands
from paraexport.graph.refusal import Refused
from paraexport.graph.shapes import named_sizes

Entries = NDArray[Any]
"""An array of objects, because entries may be names."""
MOST_ENTRIES = 64
INTEGERS = frozenset({ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BOOL})


class Integers:
    """The known integers of a graph. Call `visit` for every node, in the order of the graph."""

    def __init__(self) -> None:
        self.known: dict[ir.Value, Entries] = {}

    def entries(self, value: ir.Value | None) -> Entries | None:
        """The entries of a value, or None if it is not known as an array of integers."""
        if value is None:
            return None
        if value not in self.known:
            array = const(value)
            if array is None or array.dtype.kind not in "iub" or array.size > MOST_ENTRIES:
                return None
            self.known[value] = array.astype(object)
        return self.known[value]

    def visit(self, node: ir.Node) -> Entries | None:
        """The integers that a node with one output computes, or None."""
        rule = RULES.get(node.op_type)
        if rule is None or not is_op(node, node.op_type) or len(node.outputs) != 1:
            return None
        try:
            entries = shape_entries(node) if node.op_type == "Shape" else self.apply(rule, node)
        except (IndexError, ValueError, ZeroDivisionError, Refused):
            return None  # the node is invalid, or more general than the rule
        if entries is None or entries.size > MOST_ENTRIES:
            return None
        self.known[node.outputs[0]] = entries
        return entries

    def apply(self, rule: Rule, node: ir.Node) -> Entries | None:
        # The rules count the inputs. One that is left out has a default, so such a node is skipped.
        inputs = [self.entries(value) for value in node.inputs]
        given = [entries for entries in inputs if entries is not None]
        return rule(node, given) if given and len(given) == len(inputs) else None


Rule = Callable[[ir.Node, list[Entries]], Entries | None]


def shape_entries(node: ir.Node) -> Entries | None:
    sizes = named_sizes(operands(node)[0])
    if sizes is None:
        return None
    return objects(sizes[int_of(node, "start", 0) : int_of(node, "end", len(sizes))])


def objects(entries: list[Any]) -> Entries:
    """A one-dimensional array. np.array would turn a list of names into an array of text."""
    array = np.empty(len(entries), object)
    array[:] = entries
    return array


def integers(entries: Entries) -> list[int]:
    """All entries, as numbers.

    Raises:
        ValueError: one is not known.
    """
    numbers = [entry for entry in entries.ravel() if isinstance(entry, int)]
    if len(numbers) < entries.size:
        raise ValueError("an entry is not known")
    return numbers


def gather(node: ir.Node, inputs: list[Entries]) -> Entries:
    axis = int_of(node, "axis", 0)
    indices = np.asarray(integers(inputs[1]), np.int64).reshape(inputs[1].shape)
    return np.asarray(inputs[0].take(indices, axis=axis), object)


def cut(_node: ir.Node, inputs: list[Entries]) -> Entries:
    data, *bounds = inputs
    starts, ends, *rest = (integers(bound) for bound in bounds)
    return data[slice_index(data.ndim, starts, ends, *rest)]


def slice_index(
    rank: int, starts: list[int], ends: list[int], axes: Sequence[int] = (), steps: Sequence[int] = ()
) -> tuple[slice, ...]:
    """The index with which numpy does the same as a Slice node; without `axes`, the bounds are for the first axes.

    Raises:
        Refused: a step is negative. numpy treats the bounds of such a slice in another way.
        ValueError: the bounds, axes and steps differ in number.
        IndexError: an axis does not exist.
    """
    index = [slice(None)] * rank
    for start, end, axis, step in zip(
        starts, ends, axes or range(len(starts)), steps or [1] * len(starts), strict=True
    ):
        if step < 1:
            raise Refused(f"it reads axis {axis} backwards, in steps of {step}; expected a positive step")
        index[axis] = slice(start, end, step)
    return tuple(index)


def concat(node: ir.Node, inputs: list[Entries]) -> Entries:
    return np.concatenate(inputs, int_of(node, "axis"))


def unsqueeze(_node: ir.Node, inputs: list[Entries]) -> Entries:
    return np.expand_dims(inputs[0], tuple(integers(inputs[1])))


def squeeze(_node: ir.Node, inputs: list[Entries]) -> Entries:
    axes = tuple(integers(inputs[1])) if len(inputs) > 1 else None
    return inputs[0].squeeze(axes)


def reshape(_node: ir.Node, inputs: list[Entries]) -> Entries:
    target = integers(inputs[1])
    if 0 in target:
        raise ValueError("0 copies a size of the input")
    return inputs[0].reshape(target)


def same(node: ir.Node, inputs: list[Entries]) -> Entries | None:
    return inputs[0] if node.op_type == "Identity" or attribute(node, "to") in INTEGERS - {ir.DataType.BOOL} else None


def filled(node: ir.Node, inputs: list[Entries]) -> Entries | None:
    value = attribute(node, "value")
    if not isinstance(value, ir.TensorProtocol) or value.dtype not in INTEGERS:
        return None
    sizes = integers(inputs[0])
    return np.full(sizes, value.numpy().item(), object) if math.prod(sizes) <= MOST_ENTRIES else None


def entrywise(function: Callable[..., Any]) -> Rule:
    def rule(_node: ir.Node, inputs: list[Entries]) -> Entries:
        broadcast = np.broadcast_arrays(*inputs)
        rows = zip(*(array.ravel() for array in broadcast), strict=True)
        return objects([function(*row) for row in rows]).reshape(broadcast[0].shape)

    return rule


def numeric(function: Callable[[int, int], int]) -> Rule:
    return entrywise(lambda left, right: in_range(function(left, right)) if are_integers(left, right) else None)


def in_range(number: int) -> int | None:
    """The number, or None if an int64 would wrap around."""
    return number if -(2**63) <= number < 2**63 else None


def are_integers(*entries: object) -> bool:
    return all(isinstance(entry, int) and not isinstance(entry, bool) for entry in entries)


def quotient(dividend: int, divisor: int) -> int:
    """The quotient rounded towards zero, as ONNX divides integers."""
    return abs(dividend) // abs(divisor) * (1 if (dividend < 0) == (divisor < 0) else -1)


def equal(left: object, right: object) -> bool | None:
    if are_integers(left, right):
        return left == right
    # A named length is never negative, so it differs from every negative number.
    negative = any(isinstance(entry, int) and entry < 0 for entry in (left, right))
    return False if negative and any(isinstance(entry, str) for entry in (left, right)) else None


def choose(condition: object, if_true: object, if_false: object) -> object:
    return None if condition is None else if_true if condition else if_false


RULES: Mapping[str, Rule] = {
    "Shape": lambda node, _: shape_entries(node),
    "Gather": gather,
    "Slice": cut,
    "Concat": concat,
    "Unsqueeze": unsqueeze,
    "Squeeze": squeeze,
    "Reshape": reshape,
    "Identity": same,
    "Cast": same,
    "ConstantOfShape": filled,
    "Add": numeric(lambda left, right: left + right),
    "Sub": numeric(lambda left, right: left - right),
    "Mul": numeric(lambda left, right: left * right),
    "Div": numeric(quotient),
    "Equal": entrywise(equal),
    "Where": entrywise(choose),
}
