"""What a graph needs to run, by branch: nodes, parameters, activations and multiply-adds.

Multiply-adds are those of products, convolutions and attentions; every other node counts 0. A multiply-add is one
multiplication and one addition, so twice as many floating-point operations.
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
from paraexport.graph.shapes import dims
from paraexport.graph.summary import BRANCH, Part

SHARED, STACKED = "shared", "all branches"
"""What belongs to no branch, or to several; what computes all of them at once."""
STACKED_NAME = re.compile(r"(?:^|/)branches\.\*/")
COUNTED = ("MatMul", "Gemm", "Conv", "Attention")
OWN_COUNTED = ("MatMulIntegerToFloat", "MultiHeadAttention")
"""Of ONNX Runtime's own domain, the latter of [B, N, h·d]."""
IR_VERSION = 10


def parts(graph: ir.Graph) -> list[Part]:
    """The graph by branch, as the names of nodes and constants tell; branches in order, what is shared last."""
    fixed = with_batch(graph, 1)
    nodes: dict[str, list[ir.Node]] = defaultdict(list)
    constants: dict[str, list[ir.Value]] = defaultdict(list)
    for node in fixed:
        nodes[part_of(node.name)].append(node)
    for value in graph.initializers.values():
        if value.dtype is not None and value.dtype.is_floating_point():
            constants[part_of(value.name)].append(value)
    names = sorted(nodes.keys() | constants.keys(), key=lambda name: (name == SHARED, len(name), name))
    return [
        Part(
            name,
            len(nodes[name]),
            sum(size(value) or 0 for value in constants[name]),
            total(map(node_multiply_adds, nodes[name])),
            total(size(value) for node in nodes[name] for value in node.outputs if value.name),
        )
        for name in names
    ]


def part_of(name: str | None) -> str:
    if found := BRANCH.search(name or ""):
        return f"branch {found[1]}"
    return STACKED if STACKED_NAME.search(name or "") else SHARED


def size(value: ir.Value) -> int | None:
    shape = dims(value)
    known = [length for length in shape or () if length is not None]
    return math.prod(known) if shape is not None and len(known) == len(shape) else None


def total(counts: Iterable[int | None]) -> int | None:
    found = list(counts)
    known = [count for count in found if count is not None]
    return sum(known) if len(known) == len(found) else None


def multiply_adds(graph: ir.Graph, batch: int = 1) -> int:
    """Of one run on `batch` images.

    Raises:
        ValueError: a shape is not known; every node that cannot be counted is listed.
    """
    return sum(by_branch(graph, batch).values())


def by_branch(graph: ir.Graph, batch: int = 1) -> dict[int | None, int]:
    """The multiply-adds of each branch, told by the name of the node; None is what belongs to no branch, or to several.

    Raises:
        ValueError: a shape is not known; every node that cannot be counted is listed.
    """
    totals: Counter[int | None] = Counter()
    unknown = []
    for node, count in by_node(graph, batch):
        found = BRANCH.search(node.name or "")
        if count is None:
            unknown.append(node.name or node.op_type)
        else:
            totals[int(found[1]) if found else None] += count
    if unknown:
        raise ValueError(f"no shape to count multiply-adds from: {', '.join(unknown)}")
    return dict(totals)


def by_node(graph: ir.Graph, batch: int = 1) -> Iterator[tuple[ir.Node, int | None]]:
    """Each node with its multiply-adds on `batch` images, or None where a shape is not known."""
    fixed = with_batch(graph, batch)
    return ((node, node_multiply_adds(twin)) for node, twin in zip(graph, fixed, strict=True))


def with_batch(graph: ir.Graph, batch: int) -> ir.Graph:
    """A copy in which a free axis 0 of an input has length `batch`, with all shapes that follow from it."""
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
    except Exception:  # onnx raises classes of its own, and C++ ones; what is not inferred is not counted
        return copy
    return copy


def node_multiply_adds(node: ir.Node) -> int | None:
    """The multiply-adds of one node whose shapes are all known and such as its operator has, else None."""
    if not is_op(node, *COUNTED) and not (node.domain == "com.microsoft" and node.op_type in OWN_COUNTED):
        return 0
    if len(operands(node)) < 2 or not node.outputs:
        return None
    shapes = [dims(value) for value in (*operands(node)[:2], node.outputs[0])]
    known = [tuple(size for size in shape or () if size is not None) for shape in shapes]
    if any(shape is None or len(sizes) < len(shape) for shape, sizes in zip(shapes, known, strict=True)):
        return None
    first, second, out = known
    if node.op_type == "Attention":
        # q kᵀ has d terms for each query and key, its product by v as many terms as there are keys.
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
