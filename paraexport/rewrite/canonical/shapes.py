"""Replaces shape arithmetic by constants. Exporters compute the target of a Reshape from shapes at run time.

One walk from the inputs to the outputs gives each value its shape, with named lengths, and each integer its known
entries (`integers`). An array of known integers becomes a constant. If one size of a Reshape is not known, its target
has -1 there, which stands for the same size. An Expand to the batch and known sizes computes its target from the batch
of a graph input only.
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
from paraexport.graph.shapes import Size, named_sizes
from paraexport.rewrite.atomic import refuse_library_errors
from paraexport.rewrite.canonical.inference import infer
from paraexport.rewrite.canonical.integers import Entries, Integers
from paraexport.rewrite.canonical.prepare import constants_to_initializers, why_not

NAME = "shapes"
Sizes = list[Size]
MOST_FOLDED_BYTES = 2**20


def apply(model: ir.Model) -> Applied:
    """Counts the values that became constants, including the targets of Reshape and Expand.

    Raises:
        Refused: this step cannot follow the graph.
    """
    if reason := why_not(model):
        raise Refused(reason)
    applied = Applied(NAME)
    fold_numbers(model)
    walk = ShapeWalk(model.graph)
    for node in tuple(model.graph):
        applied.times += walk.visit(node)
    clean(model.graph)
    fold_numbers(model)
    return applied


def fold_numbers(model: ir.Model) -> None:
    """Compute values that depend on small constants only, such as 1/√d from a size."""
    with refuse_library_errors("onnxscript cannot fold its constants"):
        onnxscript.optimizer.fold_constants(model, onnx_shape_inference=False, output_size_limit=MOST_FOLDED_BYTES)
    constants_to_initializers(model)
    clean(model.graph)


class ShapeWalk:
    """The walk over a graph, with the integers that it knows so far."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph, self.integers = graph, Integers()

    def visit(self, node: ir.Node) -> bool:
        """Store the shape and integers of one node, and return whether something became a constant."""
        entries = self.integers.visit(node)
        if entries is not None and all(isinstance(entry, int) for entry in entries.ravel()):
            return self.make_constant(node, entries)
        if is_op(node, "Reshape"):
            return self.reshape(node)
        if is_op(node, "Expand"):
            return self.expand(node)
        if is_op(node, "ConstantOfShape") and (sizes := self.integers.entries(operands(node)[0])) is not None:
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
        """Give a Reshape a constant target, if at most one of its sizes is not a number."""
        source, *rest = operands(node)
        entries = self.integers.entries(rest[0]) if rest else None
        if entries is None or entries.ndim != 1:
            infer(node)
            return False
        target = rest[0]
        sizes: Sizes = entries.tolist()
        before = named_sizes(source)
        if 0 in sizes and not int_of(node, "allowzero", 0):
            copied = [*(before or []), *[None] * len(sizes)]
            sizes = [copied[axis] if size == 0 else size for axis, size in enumerate(sizes)]
        after = resolved(before, sizes)
        free = [axis for axis, size in enumerate(after) if not isinstance(size, int)]
        value = result(node)
        set_type(value, source.dtype)
        if not value.is_graph_output():
            value.shape = ir.Shape(after)
        # A 0 in a constant target would copy a size of the input instead.
        if len(free) > 1 or any(isinstance(size, int) and size == 0 for size in sizes):
            return False
        numbers = np.asarray([size if isinstance(size, int) else -1 for size in after], np.int64)
        old = const(target)
        if old is not None and np.array_equal(old, numbers):
            return False
        name = beside(node.name or "", "shape")
        node.replace_input_with(1, add_constant(self.graph, f"{name}/known", numbers))
        return old is None

    def expand(self, node: ir.Node) -> bool:
        """Give an Expand a target from the batch and constants, if only its first axis is free."""
        source, target = operands(node)
        entries, before, value = self.integers.entries(target), named_sizes(source), result(node)
        if entries is None or entries.ndim != 1 or before is None or value.is_graph_output():
            infer(node)
            return False
        sizes = broadcast_sizes(before, entries.tolist())
        value.shape = ir.Shape(sizes)
        set_type(value, source.dtype)
        batch = self.batch_input(sizes[0]) if sizes else None
        if batch is None or not all(isinstance(size, int) for size in sizes[1:]) or is_plain_target(target):
            return False
        near = node.name or "Expand"
        first = add_node(node, "Shape", [batch], {"start": 0, "end": 1}, name=beside(near, "batch"), shape=[1])
        rest = add_constant(self.graph, f"{beside(near, 'sizes')}/known", np.asarray(sizes[1:], np.int64))
        first.dtype = ir.DataType.INT64
        pieces = [first, rest]
        joined = add_node(node, "Concat", pieces, {"axis": 0}, name=beside(near, "shape"), shape=[len(sizes)])
        node.replace_input_with(1, joined)
        return True

    def batch_input(self, size: Size) -> ir.Value | None:
        """The graph input whose first axis has this name."""
        named = (value for value in self.graph.inputs if value.shape and (named_sizes(value) or [])[:1] == [size])
        return next(named, None) if isinstance(size, str) else None


def set_type(value: ir.Value, dtype: ir.DataType | None) -> None:
    if dtype is not None and value.type is None:
        value.type = ir.TensorType(dtype)


def resolved(before: Sizes | None, sizes: Sizes) -> Sizes:
    """The sizes of the result of a Reshape. The number of elements gives one size that is -1 or unknown.

    Both sides have the same number of elements: a product of numbers and names. All names of the result must cancel
    against names of the input. What is left of the input is the missing size: a number, or one name.
    """
    free = [axis for axis, size in enumerate(sizes) if size is None or size == -1]
    after: Sizes = [None if axis in free else size for axis, size in enumerate(sizes)]
    if before is None or len(free) != 1 or None in before:
        return after
    names_left, names_after = ([size for size in side if isinstance(size, str)] for side in (before, after))
    for name in names_after:
        if name not in names_left:
            return after
        names_left.remove(name)
    count_before, count_after = (math.prod(size for size in side if isinstance(size, int)) for side in (before, after))
    if not names_left and count_after and count_before % count_after == 0:
        after[free[0]] = count_before // count_after
    elif len(names_left) == 1 and count_before == count_after:
        after[free[0]] = names_left[0]
    return after


def broadcast_sizes(before: Sizes, target: Sizes) -> Sizes:
    """The sizes of `before` after broadcasting to `target`."""
    rank = max(len(before), len(target))
    sides = [[*([1] * (rank - len(side))), *side] for side in (before, target)]
    return [broadcast_size(size, target_size) for size, target_size in zip(*sides, strict=True)]


def broadcast_size(left: Size, right: Size) -> Size:
    """The length of one axis after broadcasting. Of a free length and a number, it is the number."""
    if left in {1, right}:
        return right
    if right == 1 or isinstance(left, int):
        return left
    return right if isinstance(right, int) else None


def is_plain_target(target: ir.Value) -> bool:
    """Whether a target already consists of the batch of a graph input and constants."""
    concat = target.producer()
    if concat is None or not is_op(concat, "Concat"):
        return const(target) is not None
    first, *rest = operands(concat)
    source = first.producer()
    is_batch = source is not None and is_op(source, "Shape") and operands(source)[0].is_graph_input()
    return is_batch and all(const(value) is not None for value in rest)
