"""Arranges one value of every branch in one tensor, and converts one arrangement into another.

A value [d0, d1, …, dk] of each of L branches can be arranged in three ways:

- `SPLIT`: [L, d0·…·d(k-1), dk]. A product by constants [L, K, J] and a constant [L, 1, J] need it.
- `FULL`: [L, d0, …, dk]. Any broadcasting works in it.
- A number a ≥ 0: [d0, …, L·da, …, dk], with L as the outer part of axis a. In axis 0 (`SAMPLES`) the branches look like
  more samples. In the axis of heads they look like more heads. A wide product leaves them in its last axis.

Example: 3 branches, each [2, 9, 12], are SPLIT [3, 18, 12], FULL [3, 2, 9, 12], axis 0 [6, 9, 12], axis 2 [2, 9, 36].

In SPLIT, FULL and axis 0, L is the outermost index, so the numbers have the same order in memory. One Reshape converts
these three into each other. For every other axis, L moves to the front first, which needs a Transpose.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.edit import add_constant, add_node
from paraexport.graph.naming import beside
from paraexport.graph.refusal import Refused
from paraexport.graph.shapes import Sizes, element_count, require_numbers

SPLIT, FULL, SAMPLES = -1, -2, 0
Attributes = Mapping[str, int | float | str | Sequence[int]]


@dataclass(frozen=True, eq=False)
class NewConstant:
    """A constant that is not in the graph yet."""

    array: NDArray[Any]
    name: str


@dataclass(frozen=True, eq=False)
class NewNode:
    """A node with one output that is not in the graph yet."""

    op_type: str
    inputs: tuple[NodeInput | None, ...]
    attributes: Attributes
    name: str
    shape: Sizes
    dtype: ir.DataType | None


NodeInput = ir.Value | NewNode | NewConstant


@dataclass(frozen=True, eq=False)
class Shared:
    """One value that all branches read."""

    source: ir.Value | NewNode
    sizes: Sizes


@dataclass(frozen=True, eq=False)
class BranchConstants:
    """A constant of each branch; all have the same shape."""

    values: tuple[ir.Value, ...]
    arrays: tuple[NDArray[Any], ...]
    equal: bool
    """All branches have the same numbers."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.arrays[0].shape


@dataclass(frozen=True, eq=False)
class Stacked:
    """A value of each branch, in one tensor."""

    source: NewNode
    sizes: Sizes
    """The shape in one branch."""
    arrangement: int


BranchTensor = Shared | BranchConstants | Stacked
"""One value of every branch."""


def have_equal_sizes(left: Sizes, right: Sizes) -> bool:
    """Whether two shapes are equal. A first axis without a name is assumed to be the batch."""
    same_batch = left[:1] == right[:1] or None in {*left[:1], *right[:1]}
    return len(left) == len(right) and same_batch and left[1:] == right[1:] and None not in left[1:]


class StackingPlan:
    """Collects the new nodes of one stacking. They enter the graph only after all rules have applied."""

    def __init__(self, count: int, most_bytes: int) -> None:
        self.count = count
        """L, the number of branches."""
        self.most_bytes = most_bytes
        self.new_bytes = 0
        self.converted: dict[tuple[object, int], NewNode] = {}
        """The converted tensor for each source and arrangement."""

    def weight(self, arrays: Sequence[NDArray[Any]], axis: int | None, name: str) -> NewConstant:
        """One constant with the arrays of all branches, joined along `axis`, or along a new first axis if it is None.

        Raises:
            Refused: the new constants are larger than `most_bytes` together.
        """
        self.new_bytes += sum(array.nbytes for array in arrays)
        if self.new_bytes > self.most_bytes:
            raise Refused(f"the stacked weights need more than the limit of {self.most_bytes} bytes")
        return NewConstant(np.stack(arrays) if axis is None else np.concatenate(arrays, axis=axis), name)

    def reshape(self, source: ir.Value | NewNode, target: Sequence[int], shape: Sizes, near: str) -> NewNode:
        """`source` in this shape. `target` is the same shape with -1 for the free axis, as a Reshape needs it."""
        # Two free axes may differ in length although both are None, so an equal shape proves nothing then.
        free = sum(not isinstance(size, int) for size in shape)
        if isinstance(source, NewNode) and source.shape == shape and free <= 1:
            return source
        numbers = NewConstant(np.asarray(target, np.int64), beside(near, "shape"))
        return NewNode("Reshape", (source, numbers), {"allowzero": 1}, beside(near, "Reshape"), shape, source.dtype)

    def shape(self, sizes: Sizes, arrangement: int) -> Sizes:
        """The shape of the tensor for a value of `sizes` in each branch.

        Raises:
            Refused: the value is a scalar, which only FULL can hold.
        """
        if not sizes and arrangement != FULL:
            raise Refused("a scalar cannot be stacked here; expected a value with at least one axis")
        if arrangement == SPLIT:
            return self.count, sizes[0] if len(sizes) == 2 else element_count(sizes[:-1]), sizes[-1]
        if arrangement == FULL:
            return (self.count, *sizes)
        size = sizes[arrangement]
        return (*sizes[:arrangement], self.count * size if isinstance(size, int) else None, *sizes[arrangement + 1 :])

    def target(self, sizes: Sizes, arrangement: int) -> list[int]:
        """The target of a Reshape into this arrangement, with -1 for the axis that holds the batch.

        The batch is in axis 0 if the branches are inside an axis, and in axis 1 behind a separate axis of branches.

        Raises:
            Refused: another axis is free.
        """
        shape = self.shape(sizes, arrangement)
        free = 0 if arrangement >= 0 else 1
        require_numbers([*shape[:free], *shape[free + 1 :]], "a value of the branches")
        return [size if isinstance(size, int) and axis != free else -1 for axis, size in enumerate(shape)]

    def arranged(self, tensor: Stacked, arrangement: int) -> Stacked:
        """The same values in another arrangement. Each conversion is made once and then shared."""
        if tensor.arrangement == arrangement:
            return tensor
        key = (tensor.source, arrangement)
        if key not in self.converted:
            self.converted[key] = self.rearrange(tensor, arrangement)
        return Stacked(self.converted[key], tensor.sizes, arrangement)

    def rearrange(self, tensor: Stacked, arrangement: int) -> NewNode:
        """Move L to the front, then into its new axis, then reshape. Steps that change nothing are left out.

        With L inside axis a > 0, the numbers are ordered as (axes before a, L, a and the axes after it). As a tensor
        [rows, L, rest], its Transpose [L, rows, rest] has L outermost, as in SPLIT, FULL and axis 0. The way into an
        axis a > 0 is the same in reverse.
        """
        source, near = tensor.source, tensor.source.name
        if tensor.arrangement > 0:
            rows, rest = self.counts_around(tensor.sizes, tensor.arrangement)
            source = self.reshape(source, [-1, self.count, rest], (rows, self.count, rest), near)
            source = self.swap_first_axes(source, near)
        if arrangement > 0:
            rows, rest = self.counts_around(tensor.sizes, arrangement)
            source = self.reshape(source, [self.count, -1, rest], (self.count, rows, rest), near)
            source = self.swap_first_axes(source, near)
        return self.reshape(source, self.target(tensor.sizes, arrangement), self.shape(tensor.sizes, arrangement), near)

    def counts_around(self, sizes: Sizes, axis: int) -> tuple[int | None, int]:
        """(elements in the axes before `axis`, elements in this axis and those after it)."""
        return element_count(sizes[:axis]), math.prod(require_numbers(sizes[axis:], "a value of the branches"))

    def swap_first_axes(self, source: NewNode, near: str) -> NewNode:
        """[a, b, c] -> [b, a, c]."""
        first, second, last = source.shape
        name = beside(near, "Transpose")
        return NewNode("Transpose", (source,), {"perm": [1, 0, 2]}, name, (second, first, last), source.dtype)

    def expand(self, tensor: Shared, name: str) -> Stacked:
        """A shared value, repeated for each branch."""
        ones = NewConstant(np.asarray([self.count] + [1] * len(tensor.sizes), np.int64), beside(name, "shape"))
        shape = (self.count, *tensor.sizes)
        node = NewNode("Expand", (tensor.source, ones), {}, beside(name, "Expand"), shape, tensor.source.dtype)
        return Stacked(node, tensor.sizes, FULL)

    def shared_rows(self, tensor: Shared, name: str) -> NodeInput:
        """A shared value [d0, …, dk] as [1, d0·…·d(k-1), dk], which broadcasts against SPLIT."""
        key = (tensor.source, SPLIT)
        if key not in self.converted:
            last = require_numbers(tensor.sizes[-1:], "a shared value")[0]
            shape = (1, element_count(tensor.sizes[:-1]), last)
            self.converted[key] = self.reshape(tensor.source, [1, -1, last], shape, name)
        return self.converted[key]


def materialise(graph: ir.Graph, sources: Sequence[NodeInput], before: ir.Node) -> list[ir.Value]:
    """Add the new nodes that `sources` depend on to the graph before a node, each once, and return their values.

    The walk keeps its own stack: a deep graph would exceed Python's limit for recursion.
    """
    added: dict[NodeInput, ir.Value] = {}
    pending = list(reversed(sources))
    while pending:
        source = pending[-1]
        inputs = [value for value in source.inputs if value is not None] if isinstance(source, NewNode) else []
        if missing := [value for value in inputs if value not in added and source not in added]:
            pending.extend(reversed(missing))
            continue
        pending.pop()
        if source not in added:
            added[source] = add_source(graph, source, added, before)
    return [added[source] for source in sources]


def add_source(graph: ir.Graph, source: NodeInput, added: Mapping[NodeInput, ir.Value], before: ir.Node) -> ir.Value:
    if isinstance(source, ir.Value):
        return source
    if isinstance(source, NewConstant):
        return add_constant(graph, source.name, source.array)
    inputs = [None if value is None else added[value] for value in source.inputs]
    value = add_node(before, source.op_type, inputs, source.attributes, name=source.name, shape=source.shape)
    if source.dtype is not None:
        value.dtype = source.dtype
    return value


def padded(shape: Sequence[int], rank: int) -> tuple[int, ...]:
    """The shape with ones in front up to `rank`, as broadcasting extends it."""
    return (*itertools.repeat(1, rank - len(shape)), *shape)
