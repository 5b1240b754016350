"""Shape arithmetic into constants: exporters compute the sizes of a Reshape from shapes at run time, we state them.

One walk from the inputs on: each value gets its shape, lengths by name, and each integer what is known of it
(`integers`). Integers that are all known become a constant. A Reshape of which one size is not known asks for -1 there,
which is what it computes; an Expand to the batch and known sizes gets its target from the input's batch alone.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer

from paraexport.graph.attributes import attribute, int_of
from paraexport.graph.edit import add_constant, add_node, clean, substitute
from paraexport.graph.naming import beside
from paraexport.graph.query import const, is_op, operands, result
from paraexport.graph.refusal import Applied, Refused
from paraexport.graph.shapes import named_sizes
from paraexport.rewrite.atomic import refuse_library_errors
from paraexport.rewrite.canonical.inference import infer
from paraexport.rewrite.canonical.integers import Entries, Integers
from paraexport.rewrite.canonical.prepare import constants_to_initializers, why_not

NAME = "shapes"
Sizes = list[int | str | None]
MOST_FOLDED_BYTES = 2**20


def apply(model: ir.Model) -> Applied:
    """Counts the integer values that became constants, targets of Reshape and Expand included.

    Raises:
        Refused: the graph has something that cannot be followed.
    """
    if reason := why_not(model):
        raise Refused(reason)
    applied = Applied(NAME)
    fold_numbers(model)
    walk = Walk(model.graph)
    for node in tuple(model.graph):
        applied.times += walk.visit(node)
    clean(model.graph)
    fold_numbers(model)
    return applied


def fold_numbers(model: ir.Model) -> None:
    """Compute what small constants alone decide, such as 1/√d from a size."""
    with refuse_library_errors("onnxscript cannot fold its constants"):
        onnxscript.optimizer.fold_constants(model, onnx_shape_inference=False, output_size_limit=MOST_FOLDED_BYTES)
    constants_to_initializers(model)
    clean(model.graph)


class Walk:
    def __init__(self, graph: ir.Graph) -> None:
        self.graph, self.integers = graph, Integers()

    def visit(self, node: ir.Node) -> bool:
        """State what is known of one node; whether something became a constant."""
        entries = self.integers.see(node)
        if entries is not None and all(isinstance(entry, int) for entry in entries.ravel()):
            return self.make_constant(node, entries)
        if is_op(node, "Reshape"):
            return self.reshape(node)
        if is_op(node, "Expand"):
            return self.expand(node)
        if is_op(node, "ConstantOfShape") and (sizes := self.integers.of(operands(node)[0])) is not None:
            filled = attribute(node, "value")
            set_type(result(node), filled.dtype if isinstance(filled, ir.TensorProtocol) else ir.DataType.FLOAT)
            result(node).shape = ir.Shape(sizes.tolist())
            return False
        infer(node)
        return False

    def make_constant(self, node: ir.Node, entries: Entries) -> bool:
        value = result(node)
        if value.dtype is None:
            infer(node)
        if value.is_graph_output() or value.dtype not in (None, ir.DataType.INT64) or entries.dtype != object:
            infer(node)
            return False
        if any(isinstance(entry, bool) for entry in entries.ravel()):
            infer(node)
            return False
        array = np.asarray(entries.tolist(), np.int64).reshape(entries.shape)
        constant = add_constant(self.graph, f"{value.name}/known", array)
        self.integers.known[constant] = entries
        substitute(value, constant)
        return True

    def reshape(self, node: ir.Node) -> bool:
        source, *rest = operands(node)
        entries = self.integers.of(rest[0]) if rest else None
        if entries is None or entries.ndim != 1:
            infer(node)
            return False
        target = rest[0]
        sizes: Sizes = entries.tolist()
        before = named_sizes(source)
        if 0 in sizes and not int_of(node, "allowzero", 0):
            copied = [*(before or []), *[None] * len(sizes)]
            sizes = [copied[axis] if size == 0 else size for axis, size in enumerate(sizes)]
        asked = [*sizes]
        after = settled(before, sizes)
        free = [axis for axis, size in enumerate(after) if not isinstance(size, int)]
        value = result(node)
        set_type(value, source.dtype)
        if not value.is_graph_output():
            value.shape = ir.Shape(after)
        if len(free) > 1 or any(isinstance(size, int) and size == 0 for size in asked):
            return False
        numbers = np.asarray([size if isinstance(size, int) else -1 for size in after], np.int64)
        old = const(target)
        if old is not None and np.array_equal(old, numbers):
            return False
        name = beside(node.name or "", "shape")
        node.replace_input_with(1, add_constant(self.graph, f"{name}/known", numbers))
        return old is None

    def expand(self, node: ir.Node) -> bool:
        source, target = operands(node)
        entries, before, value = self.integers.of(target), named_sizes(source), result(node)
        if entries is None or entries.ndim != 1 or before is None or value.is_graph_output():
            infer(node)
            return False
        sizes = widened(before, entries.tolist())
        value.shape = ir.Shape(sizes)
        set_type(value, source.dtype)
        batch = self.batch_input(sizes[0]) if sizes else None
        if batch is None or not all(isinstance(size, int) for size in sizes[1:]) or is_plain_target(target):
            return False
        near = node.name or "Expand"
        first = add_node(node, "Shape", [batch], {"start": 0, "end": 1}, name=beside(near, "batch"), shape=[1])
        rest = add_constant(self.graph, f"{beside(near, 'sizes')}/known", np.asarray(sizes[1:], np.int64))
        first.dtype = ir.DataType.INT64
        both = [first, rest]
        whole = add_node(node, "Concat", both, {"axis": 0}, name=beside(near, "shape"), shape=[len(sizes)])
        node.replace_input_with(1, whole)
        return True

    def batch_input(self, size: int | str | None) -> ir.Value | None:
        """The input of the graph whose first axis has this name."""
        named = (value for value in self.graph.inputs if value.shape and named_sizes(value)[:1] == [size])  # type: ignore[index]
        return next(named, None) if isinstance(size, str) else None


def set_type(value: ir.Value, dtype: ir.DataType | None) -> None:
    if dtype is not None and value.type is None:
        value.type = ir.TensorType(dtype)


def settled(before: Sizes | None, sizes: Sizes) -> Sizes:
    """The sizes that a Reshape gives: what -1, or one unknown, stands for is told from the number of elements."""
    free = [axis for axis, size in enumerate(sizes) if size is None or size == -1]
    after: Sizes = [None if axis in free else size for axis, size in enumerate(sizes)]
    if before is None or len(free) != 1 or None in before:
        return after
    letters, others = ([size for size in side if isinstance(size, str)] for side in (before, after))
    for name in others:
        if name not in letters:
            return after
        letters.remove(name)
    whole, part = (math.prod(size for size in side if isinstance(size, int)) for side in (before, after))
    if not letters and part and whole % part == 0:
        after[free[0]] = whole // part
    elif len(letters) == 1 and whole == part:
        after[free[0]] = letters[0]
    return after


def widened(before: Sizes, target: Sizes) -> Sizes:
    """The sizes of `before` broadcast to `target`."""
    rank = max(len(before), len(target))
    sides = [[*([1] * (rank - len(side))), *side] for side in (before, target)]
    return [widest(size, wanted) for size, wanted in zip(*sides, strict=True)]


def widest(size: int | str | None, other: int | str | None) -> int | str | None:
    """The length of an axis that was broadcast; of a free length and a number, the number."""
    if size in {1, other}:
        return other
    if other == 1 or isinstance(size, int):
        return size
    return other if isinstance(other, int) else None


def is_plain_target(target: ir.Value) -> bool:
    """Whether it is the batch of a graph input and constants already."""
    concat = target.producer()
    if concat is None or not is_op(concat, "Concat"):
        return const(target) is not None
    first, *rest = operands(concat)
    source = first.producer()
    is_batch = source is not None and is_op(source, "Shape") and operands(source)[0].is_graph_input()
    return is_batch and all(const(value) is not None for value in rest)
