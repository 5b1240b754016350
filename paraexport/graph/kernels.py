"""Reads a graph as kernels: the groups of nodes that a runtime starts as one piece of work.

A node that only computes number by number joins the kernel that makes its input, if no other node reads that input.
Reshapes, casts and Q/DQ are no work of their own. This is how TensorRT and OpenVINO fuse in general; a runtime may fuse
more or less.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from paraexport.graph.cost import branch_label, node_multiply_adds, value_elements, with_batch
from paraexport.graph.query import operands, readers
from paraexport.graph.summary import MERGED, SHARED

VIEWS = frozenset((
    "Cast", "Constant", "DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Shape", "Squeeze",
    "Unsqueeze",
))  # fmt: skip
"""Operators that are no work of their own."""
BY_NUMBER = frozenset((
    "Abs", "Add", "Clip", "Div", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Max", "Min", "Mul",
    "Neg", "Pow", "QuickGelu", "Relu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Sum", "Tanh", "Where",
))  # fmt: skip
"""Operators that compute number by number."""
PARTS = frozenset(("Gather", "Slice", "Split"))
"""Operators that read no more than they write."""
SIZES = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)
"""The types of shapes and indices, which are no work."""


@dataclass(frozen=True)
class Kernel:
    """The work of one kernel in one run on a batch."""

    branch: str
    """`branch 3`, `merged branches` or `shared`."""
    multiply_adds: int
    weights: int
    """Constant numbers that it reads."""
    activations: int
    """Other numbers that it reads and writes."""

    @property
    def weighted(self) -> bool:
        """Whether it is a product by weights. Only these are int8 in an int8 model."""
        return self.multiply_adds > 0 and self.weights > 0


def kernels(graph: ir.Graph, batch: int) -> list[Kernel]:
    """The kernels of one run on `batch` images, in order.

    Raises:
        ValueError: shapes are unknown. The message lists the nodes, at most five.
    """
    fixed = with_batch(graph, batch)
    found: list[Kernel] = []
    makers: dict[ir.Value, int] = {}
    """By value, the kernel that makes it, through views."""
    unknown = []
    for node in fixed:
        if not node.outputs or all(value.dtype in SIZES for value in node.outputs):
            continue
        if node.op_type in VIEWS:
            made = [makers[value] for value in operands(node)[:1] if value in makers]
            makers.update(dict.fromkeys(node.outputs, made[0]) if made else {})
            continue
        work = node_work(node)
        if work is None:
            unknown.append(node.name or node.op_type)
            continue
        joined = kernel_to_join(node, makers) if node.op_type in BY_NUMBER else None
        if joined is None:
            found.append(work)
            makers.update(dict.fromkeys(node.outputs, len(found) - 1))
            continue
        value, place = joined
        # The value between the two is neither written nor read.
        saved = 2 * (value_elements(value) or 0)
        before = found[place]
        found[place] = replace(
            before,
            weights=before.weights + work.weights,
            activations=before.activations + work.activations - saved,
        )
        makers.update(dict.fromkeys(node.outputs, place))
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise ValueError(f"the shapes at these nodes are not known: {', '.join(unknown[:5])}{more}")
    return found


def node_work(node: ir.Node) -> Kernel | None:
    """The work of one node by itself; None if a shape is not known."""
    count = node_multiply_adds(node)
    numbers = [value for value in operands(node) if value.dtype not in SIZES]
    weights = [value_elements(value) for value in numbers if is_weight(value)]
    read = [value_elements(value) for value in numbers if not is_weight(value)]
    written = [value_elements(value) for value in node.outputs if value.name]
    if node.op_type in PARTS:
        read = written
    sizes = [*weights, *read, *written]
    if count is None or any(size is None for size in sizes):
        return None
    return Kernel(branch_label(node.name), count, total(weights), total(read) + total(written))


def is_weight(value: ir.Value) -> bool:
    """Whether a value is constant, also behind a DequantizeLinear or a Cast."""
    node = value.producer()
    if node is not None and node.op_type in VIEWS and operands(node):
        return is_weight(operands(node)[0])
    return value.const_value is not None


def total(sizes: Sequence[int | None]) -> int:
    return sum(size or 0 for size in sizes)


def kernel_to_join(node: ir.Node, makers: dict[ir.Value, int]) -> tuple[ir.Value, int] | None:
    """The last kernel that makes an input which only this node reads, with that input."""
    own = [(makers[value], value) for value in operands(node) if value in makers and is_only_read_here(value)]
    if not own:
        return None
    place, value = max(own, key=lambda pair: pair[0])
    return value, place


def is_only_read_here(value: ir.Value) -> bool:
    """Whether one node reads the value, also through views."""
    while True:
        if value.is_graph_output() or len(readers(value)) != 1:
            return False
        node = value.producer()
        if node is None or node.op_type not in VIEWS:
            return True
        value = operands(node)[0]


def with_branches(found: Sequence[Kernel], branches: int, wanted: int) -> list[Kernel]:
    """The kernels of the same model with another number of branches.

    Branches are alike. So every kernel of one branch is there `wanted` / `branches` times as often, and a kernel of
    merged branches is as many times as large.

    Args:
        found: the kernels of a graph with at least two branches.
        branches: its number of branches.
        wanted: the number of branches in the result.
    """
    by_branch: dict[str, list[Kernel]] = defaultdict(list)
    for kernel in found:
        by_branch[kernel.branch].append(kernel)
    several = [label for label in by_branch if label not in (MERGED, SHARED)]
    result = by_branch[SHARED] + [
        Kernel(MERGED, *(math.ceil(size * wanted / branches) for size in sizes_of(kernel)))
        for kernel in by_branch[MERGED]
    ]
    for place in range(wanted if several else 0):
        like = by_branch[several[min(place, len(several) - 1)]]
        result += [replace(kernel, branch=f"branch {place}") for kernel in like]
    return result


def sizes_of(kernel: Kernel) -> tuple[int, int, int]:
    return kernel.multiply_adds, kernel.weights, kernel.activations
