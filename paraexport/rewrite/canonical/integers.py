"""The integers that a graph computes from shapes, as far as they are known before it runs.

An entry is a number, the name of a free length (`batch`), or None where nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.attributes import attribute, int_of
from paraexport.graph.query import const, is_op, operands
from paraexport.graph.refusal import Refused

Entries = NDArray[Any]
"""An array of objects."""
MOST_ENTRIES = 64
INTEGERS = frozenset({ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BOOL})


class Integers:
    """What is known of the integers of a graph; nodes are shown to it in their order."""

    def __init__(self) -> None:
        self.known: dict[ir.Value, Entries] = {}

    def of(self, value: ir.Value | None) -> Entries | None:
        if value is None:
            return None
        if value not in self.known:
            array = const(value)
            if array is None or array.dtype.kind not in "iub" or array.size > MOST_ENTRIES:
                return None
            self.known[value] = array.astype(object)
        return self.known[value]

    def see(self, node: ir.Node) -> Entries | None:
        """What a node with one output of integers computes, or None."""
        rule = RULES.get(node.op_type)
        if rule is None or not is_op(node, node.op_type) or len(node.outputs) != 1:
            return None
        try:
            found = shape_entries(node) if node.op_type == "Shape" else self.apply(rule, node)
        except (IndexError, ValueError, ZeroDivisionError, Refused):
            return None  # the node is wrong, or more general than the rule
        if found is None or found.size > MOST_ENTRIES:
            return None
        self.known[node.outputs[0]] = found
        return found

    def apply(self, rule: Rule, node: ir.Node) -> Entries | None:
        # One that is left out has a default, and the rules count those that are given.
        inputs = [self.of(value) for value in node.inputs]
        given = [entries for entries in inputs if entries is not None]
        return rule(node, given) if given and len(given) == len(inputs) else None


Rule = Callable[[ir.Node, list[Entries]], Entries | None]


def shape_entries(node: ir.Node) -> Entries | None:
    shape = operands(node)[0].shape
    if shape is None:
        return None
    sizes = [size if isinstance(size, int) else size.value for size in shape]
    return objects(sizes[int_of(node, "start", 0) : int_of(node, "end", len(sizes))])


def objects(entries: list[Any]) -> Entries:
    array = np.empty(len(entries), object)
    array[:] = entries
    return array


def integers(entries: Entries) -> list[int]:
    """All entries, as numbers.

    Raises:
        ValueError: one is not known.
    """
    found = [entry for entry in entries.ravel() if isinstance(entry, int)]
    if len(found) < entries.size:
        raise ValueError("not known")
    return found


def gather(node: ir.Node, inputs: list[Entries]) -> Entries:
    axis = int_of(node, "axis", 0)
    indices = np.asarray(integers(inputs[1]), np.int64).reshape(inputs[1].shape)
    return np.asarray(inputs[0].take(indices, axis=axis), object)


def cut(_node: ir.Node, inputs: list[Entries]) -> Entries:
    data, *bounds = inputs
    starts, ends, *rest = (integers(bound) for bound in bounds)
    axes = rest[0] if rest else list(range(len(starts)))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    index = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise ValueError("backwards")
        index[axis] = slice(start, end, step)
    return data[tuple(index)]


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
        raise ValueError("copies a size")
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
    return entrywise(lambda one, other: in_range(function(one, other)) if are_integers(one, other) else None)


def in_range(number: int) -> int | None:
    """The number, or None where an int64 would wrap around."""
    return number if -(2**63) <= number < 2**63 else None


def are_integers(*entries: object) -> bool:
    return all(isinstance(entry, int) and not isinstance(entry, bool) for entry in entries)


def quotient(one: int, other: int) -> int:
    """Integers divide towards zero."""
    return abs(one) // abs(other) * (1 if (one < 0) == (other < 0) else -1)


def are_equal(one: object, other: object) -> bool | None:
    if are_integers(one, other):
        return one == other
    # A length is never negative.
    negative = any(isinstance(entry, int) and entry < 0 for entry in (one, other))
    return False if negative and any(isinstance(entry, str) for entry in (one, other)) else None


def choose(condition: object, one: object, other: object) -> object:
    return None if condition is None else one if condition else other


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
    "Add": numeric(lambda one, other: one + other),
    "Sub": numeric(lambda one, other: one - other),
    "Mul": numeric(lambda one, other: one * other),
    "Div": numeric(quotient),
    "Equal": entrywise(are_equal),
    "Where": entrywise(choose),
}
