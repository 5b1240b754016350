"""Counts what each branch of a graph needs to run: nodes, parameters, activations and multiply-adds.

Products, convolutions and attentions have multiply-adds; every other node counts 0. One multiply-add is two
floating-point operations, a multiplication and an addition.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import onnx_ir as ir
from onnx_ir.passes import common

from paraexport.graph.attributes import int_of
from paraexport.graph.query import input_of, is_op, operands
from paraexport.graph.refusal import Refused
from paraexport.graph.shapes import dims, element_count
from paraexport.graph.summary import BRANCH, MERGED, SHARED, BranchCost

MERGED_NAME = re.compile(r"(?:^|/)branches\.\*(?=[./])")
COUNTED = ("MatMul", "Gemm", "Conv", "Attention")
MICROSOFT_COUNTED = ("MatMulIntegerToFloat", "MultiHeadAttention")
"""Operators of ONNX Runtime's own domain. MultiHeadAttention reads [B, N, h·d]."""
IR_VERSION = 10
BYTES = (ir.DataType.INT8, ir.DataType.UINT8)
"""The types of quantised weights."""


def branch_costs(graph: ir.Graph) -> list[BranchCost]:
    """The cost of each branch on one image, in order; shared nodes come last. Names assign nodes to branches."""
    fixed = with_batch(graph, 1)
    nodes: dict[str, list[ir.Node]] = defaultdict(list)
    constants: dict[str, list[ir.Value]] = defaultdict(list)
    for node in fixed:
        nodes[branch_label(node.name)].append(node)
    for value in graph.initializers.values():
        if value.dtype is not None and (value.dtype.is_floating_point() or value.dtype in BYTES):
            constants[constant_label(value)].append(value)
    labels = sorted(nodes.keys() | constants.keys(), key=lambda label: (label == SHARED, len(label), label))
    return [
        BranchCost(
            label,
            len(nodes[label]),
            sum(value_elements(value) or 0 for value in constants[label]),
            sum_if_known(map(node_multiply_adds, nodes[label])),
            sum_if_known(value_elements(value) for node in nodes[label] for value in node.outputs if value.name),
        )
        for label in labels
    ]


def branch_label(name: str | None) -> str:
    """`branch 3`, `merged branches` or `shared`, from the name of a node or a constant."""
    if match := BRANCH.search(name or ""):
        return f"branch {match[1]}"
    return MERGED if MERGED_NAME.search(name or "") else SHARED


def constant_label(value: ir.Value) -> str:
    """The label in the name of a constant, or the one that all of its readers have."""
    label = branch_label(value.name)
    readers = {branch_label(reader.name) for reader, _ in value.uses()}
    return readers.pop() if label == SHARED and len(readers) == 1 else label


def value_elements(value: ir.Value) -> int | None:
    shape = dims(value)
    return None if shape is None else element_count(shape)


def sum_if_known(counts: Iterable[int | None]) -> int | None:
    counts = list(counts)
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def multiply_adds(graph: ir.Graph, batch: int = 1) -> int:
    """The multiply-adds of one run on `batch` images.

    Raises:
        ValueError: a shape is not known. The message lists every node that cannot be counted.
    """
    return sum(multiply_adds_by_branch(graph, batch).values())


def multiply_adds_by_branch(graph: ir.Graph, batch: int = 1) -> dict[int | None, int]:
    """The multiply-adds of each branch, which the name of a node gives. The key None is for shared nodes.

    Raises:
        ValueError: a shape is not known. The message lists every node that cannot be counted.
    """
    totals: Counter[int | None] = Counter()
    unknown = []
    for node, count in multiply_adds_by_node(graph, batch):
        match = BRANCH.search(node.name or "")
        if count is None:
            unknown.append(node.name or node.op_type)
        else:
            totals[int(match[1]) if match else None] += count
    if unknown:
        raise ValueError(
            f"cannot count multiply-adds, because the shapes at these nodes are not known: {', '.join(unknown)}"
        )
    return dict(totals)


def multiply_adds_by_node(graph: ir.Graph, batch: int = 1) -> Iterator[tuple[ir.Node, int | None]]:
    """Each node with its multiply-adds on `batch` images, or None if a shape is not known."""
    fixed = with_batch(graph, batch)
    return ((node, node_multiply_adds(twin)) for node, twin in zip(graph, fixed, strict=True))


def with_batch(graph: ir.Graph, batch: int) -> ir.Graph:
    """A copy of the graph for `batch` images: free first axes of inputs have this length, and shapes follow."""
    copy = graph.clone()
    inputs = [value for value in copy.inputs if value.shape]
    free = {value.shape[0] for value in inputs if value.shape and isinstance(value.shape[0], ir.SymbolicDim)}
    named = {size for size in free if size.value is not None}
    for value in (*inputs, *(value for node in copy for value in node.outputs if value.shape)):
        sizes = [batch if size in named else size for size in value.shape or ()]
        if value in inputs and not isinstance(sizes[0], int):
            sizes[0] = batch
        value.shape = ir.Shape(sizes)
    try:
        common.ShapeInferencePass(strict_mode=False)(ir.Model(copy, ir_version=IR_VERSION))
    except Exception:  # onnx raises classes of its own, and C++ ones; nodes without a shape are not counted
        return copy
    return copy


def node_multiply_adds(node: ir.Node) -> int | None:
    """The multiply-adds of one node, or None if a shape is not known or does not fit the operator."""
    if not is_op(node, *COUNTED) and not (node.domain == "com.microsoft" and node.op_type in MICROSOFT_COUNTED):
        return 0
    if len(operands(node)) < 2 or not node.outputs:
        return None
    shapes = [dims(value) for value in (*operands(node)[:2], node.outputs[0])]
    known = [tuple(size for size in shape or () if size is not None) for shape in shapes]
    if any(shape is None or len(sizes) < len(shape) for shape, sizes in zip(shapes, known, strict=True)):
        return None
    first, second, out = known
    if node.op_type == "Attention":
        # q kᵀ has d terms for each query and key; its product by v has as many terms as there are keys.
        cached = input_of(node, 4) is not None
        return None if cached or len(second) < 2 else (math.prod(first) + math.prod(out)) * second[-2]
    if node.op_type == "MultiHeadAttention":
        return None if len(second) != 3 else (math.prod(first) + math.prod(out)) * second[1]
    if node.op_type == "Conv":
        return math.prod(out) * math.prod(second[1:])
    if not first:
        return None
    try:
        return math.prod(out) * first[0 if node.op_type == "Gemm" and int_of(node, "transA", 0) else -1]
    except Refused:
        return None
