"""One value of every branch as one tensor: the ways to lay it out, and the steps from one way to another.

A value [d0, d1, …, dk] of each of L branches is laid out

- ``SPLIT``: [L, d0·…·d(k-1), dk], which a product by [L, K, J] and a constant [L, 1, J] need;
- ``FULL``: [L, d0, …, dk], in which any broadcasting works;
- or folded into axis a, L outermost: [d0, …, L·da, …, dk]. Into axis 0 the branches are more samples, into the heads
  of attention they are more heads, and a wide product leaves them in its last axis.

SPLIT, FULL and axis 0 are the same numbers in the same order: a Reshape changes one into another.
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

SPLIT, FULL, SAMPLES = -1, -2, 0
Size = int | str | None
Sizes = tuple[Size, ...]
Attributes = Mapping[str, int | float | str | Sequence[int]]


@dataclass(frozen=True, eq=False)
class Weight:
    """A constant to be."""

    array: NDArray[Any]
    name: str


@dataclass(frozen=True, eq=False)
class Step:
    """A node to be, with one output."""

    op_type: str
    inputs: tuple[Source | None, ...]
    attributes: Attributes
    name: str
    shape: Sizes
    dtype: ir.DataType | None


Source = ir.Value | Step | Weight


@dataclass(frozen=True, eq=False)
class Shared:
    """One value that every branch reads."""

    source: ir.Value | Step
    sizes: Sizes


@dataclass(frozen=True, eq=False)
class Constants:
    """A constant of every branch."""

    values: tuple[ir.Value, ...]
    arrays: tuple[NDArray[Any], ...]
    equal: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return self.arrays[0].shape


@dataclass(frozen=True, eq=False)
class Stacked:
    """A value of every branch, in one tensor."""

    source: Step
    sizes: Sizes
    """Of the value in one branch."""
    layout: int


View = Shared | Constants | Stacked


def known(sizes: Sequence[Size], what: str) -> tuple[int, ...]:
    if unknown := [size for size in sizes if not isinstance(size, int)]:
        raise Refused(f"{what} has the size {unknown[0] or 'unknown'} beside its first axis")
    if 0 in sizes:
        raise Refused(f"{what} is empty")
    return tuple(size for size in sizes if isinstance(size, int))


def product(sizes: Sequence[Size]) -> int | None:
    numbers = [size for size in sizes if isinstance(size, int)]
    return math.prod(numbers) if len(numbers) == len(sizes) else None


def are_equal(one: Sizes, other: Sizes) -> bool:
    """Whether two shapes are the same; a batch without a name is taken for the batch."""
    same_batch = one[:1] == other[:1] or None in {*one[:1], *other[:1]}
    return len(one) == len(other) and same_batch and one[1:] == other[1:] and None not in one[1:]


class Plan:
    """The steps of one rewrite, kept beside the graph until all of them are certain."""

    def __init__(self, count: int, most_bytes: int) -> None:
        self.count = count
        """L, the branches that become one."""
        self.most_bytes = most_bytes
        self.new_bytes = 0
        self.converted: dict[tuple[object, int], Step] = {}

    def weight(self, arrays: Sequence[NDArray[Any]], axis: int | None, name: str) -> Weight:
        """The arrays side by side along `axis`, or along a new first axis."""
        self.new_bytes += sum(array.nbytes for array in arrays)
        if self.new_bytes > self.most_bytes:
            raise Refused(f"the stacked weights need more than {self.most_bytes} bytes")
        return Weight(np.stack(arrays) if axis is None else np.concatenate(arrays, axis=axis), name)

    def reshape(self, source: ir.Value | Step, target: Sequence[int], shape: Sizes, near: str) -> Step:
        if isinstance(source, Step) and source.shape == shape and sum(not isinstance(size, int) for size in shape) <= 1:
            return source
        name = beside(near, "Reshape")
        numbers = Weight(np.asarray(target, np.int64), beside(near, "shape"))
        return Step("Reshape", (source, numbers), {"allowzero": 1}, name, shape, source.dtype)

    def shape(self, sizes: Sizes, layout: int) -> Sizes:
        """The shape of a value of these sizes in this layout."""
        if not sizes and layout != FULL:
            raise Refused("a value without axes")
        if layout == SPLIT:
            return self.count, sizes[0] if len(sizes) == 2 else product(sizes[:-1]), sizes[-1]
        if layout == FULL:
            return (self.count, *sizes)
        axis = sizes[layout]
        return (*sizes[:layout], self.count * axis if isinstance(axis, int) else None, *sizes[layout + 1 :])

    def target(self, sizes: Sizes, layout: int) -> list[int]:
        """What a Reshape into this layout asks for, -1 standing for the batch."""
        shape = self.shape(sizes, layout)
        free = 0 if layout >= 0 else 1
        known([*shape[:free], *shape[free + 1 :]], "a value")
        return [size if isinstance(size, int) and axis != free else -1 for axis, size in enumerate(shape)]

    def laid_out(self, view: Stacked, layout: int) -> Stacked:
        """The same value in another layout; a conversion is made once and then shared."""
        if view.layout == layout:
            return view
        key = (view.source, layout)
        if key not in self.converted:
            self.converted[key] = self.convert(view, layout)
        return Stacked(self.converted[key], view.sizes, layout)

    def convert(self, view: Stacked, layout: int) -> Step:
        """Axis 0, SPLIT and FULL are a Reshape apart; branches inside another axis are moved to the front first."""
        source, near = view.source, view.source.name
        if view.layout > 0:
            rows, rest = self.around(view.sizes, view.layout)
            source = self.reshape(source, [-1, self.count, rest], (rows, self.count, rest), near)
            source = self.swapped(source, near)
        if layout > 0:
            rows, rest = self.around(view.sizes, layout)
            source = self.reshape(source, [self.count, -1, rest], (self.count, rows, rest), near)
            source = self.swapped(source, near)
        return self.reshape(source, self.target(view.sizes, layout), self.shape(view.sizes, layout), near)

    def around(self, sizes: Sizes, axis: int) -> tuple[int | None, int]:
        """How many numbers lie before an axis, and how many from it on."""
        return product(sizes[:axis]), math.prod(known(sizes[axis:], "a value"))

    def swapped(self, source: Step, near: str) -> Step:
        first, second, last = source.shape
        name = beside(near, "Transpose")
        return Step("Transpose", (source,), {"perm": [1, 0, 2]}, name, (second, first, last), source.dtype)

    def expanded(self, view: Shared, name: str) -> Stacked:
        """A shared value, once for each branch."""
        ones = Weight(np.asarray([self.count] + [1] * len(view.sizes), np.int64), beside(name, "shape"))
        shape = (self.count, *view.sizes)
        step = Step("Expand", (view.source, ones), {}, beside(name, "Expand"), shape, view.source.dtype)
        return Stacked(step, view.sizes, FULL)

    def shared_rows(self, view: Shared, name: str) -> Source:
        """A shared value [d0, …, dk] as [1, d0·…·d(k-1), dk], which broadcasts against SPLIT."""
        key = (view.source, SPLIT)
        if key not in self.converted:
            last = known(view.sizes[-1:], "a value")[0]
            shape = (1, product(view.sizes[:-1]), last)
            self.converted[key] = self.reshape(view.source, [1, -1, last], shape, name)
        return self.converted[key]


def materialise(graph: ir.Graph, sources: Sequence[Source], before: ir.Node) -> list[ir.Value]:
    """Add the steps that `sources` rest on to the graph before a node, each once, and return their values."""
    made: dict[Source, ir.Value] = {}
    pending = list(reversed(sources))
    while pending:
        source = pending[-1]
        inputs = [value for value in source.inputs if value is not None] if isinstance(source, Step) else []
        if missing := [value for value in inputs if value not in made and source not in made]:
            pending.extend(reversed(missing))
            continue
        pending.pop()
        if source not in made:
            made[source] = add_source(graph, source, made, before)
    return [made[source] for source in sources]


def add_source(graph: ir.Graph, source: Source, made: Mapping[Source, ir.Value], before: ir.Node) -> ir.Value:
    if isinstance(source, ir.Value):
        return source
    if isinstance(source, Weight):
        return add_constant(graph, source.name, source.array)
    inputs = [None if value is None else made[value] for value in source.inputs]
    value = add_node(before, source.op_type, inputs, source.attributes, name=source.name, shape=source.shape)
    if source.dtype is not None:
        value.dtype = source.dtype
    return value


def padded(shape: Sequence[int], rank: int) -> tuple[int, ...]:
    """The shape with ones in front, as broadcasting reads it."""
    return (*itertools.repeat(1, rank - len(shape)), *shape)
