"""Finds the last operator of a graph, and bounds that its outputs never leave."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import onnx_ir as ir

Bounds = tuple[float, float]
FREE: Bounds = (-math.inf, math.inf)
DEEPEST = 64
"""The longest chain of nodes that is followed back from an output. Heads are shorter."""
PASSING = frozenset(
    {
        *("Identity", "Cast", "CastLike", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Tile"),
        *("Slice", "Split", "Gather", "GatherElements", "GatherND", "ReduceMean", "ReduceMax", "ReduceMin", "Dropout"),
    }
)
"""Operators whose results stay between the bounds of their first input."""
FIXED: Mapping[str, Bounds] = {
    **dict.fromkeys(("Softmax", "Sigmoid", "HardSigmoid", "Hardmax"), (0.0, 1.0)),
    **dict.fromkeys(("Tanh", "Erf", "Softsign", "Sin", "Cos"), (-1.0, 1.0)),
    **dict.fromkeys(("Softplus", "ReduceL1", "ReduceL2", "ReduceSumSquare"), (0.0, math.inf)),
    "LogSoftmax": (-math.inf, 0.0),
}


@dataclass(frozen=True)
class Ending:
    operator: str
    """The last operator that computes something: `Softmax`, `Gemm`."""
    low: float
    high: float
    """For every image, all outputs are between these bounds."""
    logarithm: bool
    """The outputs are logarithms of values between 0 and 1."""


def ending_of(output: ir.Value) -> Ending:
    """The ending of the graph at `output`, from its last operators."""
    low, high = IntervalAnalysis().bounds(output)
    last = last_node(output)
    return Ending(last.op_type if last else "", low, high, last is not None and is_logarithm(last))


def last_node(value: ir.Value | None) -> ir.Node | None:
    """The node that computes `value`. Nodes that only convert or reshape it are skipped."""
    moves = PASSING - {"ReduceMean", "ReduceMax", "ReduceMin"}
    node = value.producer() if value is not None else None
    while node is not None and node.op_type in moves and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node


def is_logarithm(node: ir.Node) -> bool:
    """LogSoftmax, Log of a probability, or LogSigmoid as −Softplus(−x)."""
    if node.op_type == "Log":
        low, high = IntervalAnalysis().bounds(node.inputs[0])
        return low >= 0 and high <= 1
    inner = last_node(node.inputs[0]) if node.op_type == "Neg" else None
    return node.op_type == "LogSoftmax" or (inner is not None and inner.op_type == "Softplus")


class IntervalAnalysis:
    """Interval arithmetic over the last nodes of a graph. A value that it cannot bound is `FREE`."""

    def __init__(self) -> None:
        self.known: dict[ir.Value, Bounds] = {}
        self.depth = 0

    def bounds(self, value: ir.Value | None) -> Bounds:
        if value is None:
            return FREE
        if value not in self.known:
            self.known[value] = FREE  # this stays if the graph is too deep
            if self.depth < DEEPEST:
                self.depth += 1
                self.known[value] = self.compute(value)
                self.depth -= 1
        return self.known[value]

    def compute(self, value: ir.Value) -> Bounds:
        if (constant := ir.convenience.get_const_tensor(value)) is not None:
            numbers = constant.numpy()
            fits = numbers.size and numbers.dtype.kind in "fiu" and np.isfinite(numbers).all()
            return (float(numbers.min()), float(numbers.max())) if fits else FREE
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx"):
            return FREE
        if node.op_type in FIXED:
            return FIXED[node.op_type]
        if node.op_type == "Div" and is_share(node):
            return self.share(node)
        inputs = [self.bounds(value) for value in node.inputs]
        if not inputs:
            return FREE
        if node.op_type in PASSING:
            return inputs[0]
        if node.op_type == "Mul" and node.inputs[0] is node.inputs[1]:
            return 0.0, math.inf
        rule = RULES.get(node.op_type)
        return rule(inputs) if rule else FREE

    def share(self, node: ir.Node) -> Bounds:
        """x / Σx is between 0 and 1 if no x is negative."""
        low, _ = self.bounds(node.inputs[0])
        return (0.0, 1.0) if low >= 0 else FREE


def is_share(node: ir.Node) -> bool:
    """Whether a Div is x / Σx, as in a softmax that is written out.

    A small number added to the sum, or a lower limit of it, makes no difference: the result only gets smaller.
    """
    total = last_node(node.inputs[1])
    while total is not None and total.op_type in ("Clip", "Add", "Max"):
        total = last_node(total.inputs[0])
    if total is None or total.op_type not in ("ReduceSum", "ReduceL1"):
        return False
    divided, summed = node.inputs[0], total.inputs[0]
    inner = last_node(summed)
    return divided is summed or (inner is not None and inner.op_type == "Abs" and inner.inputs[0] is divided)


def products(left: Bounds, right: Bounds) -> Bounds:
    numbers = [0.0 if 0 in (first, second) else first * second for first in left for second in right]
    return min(numbers), max(numbers)


def reciprocal(bounds: Bounds) -> Bounds:
    low, high = bounds
    if low < 0 < high or (low == 0 and high == 0):
        return FREE
    ends = [math.copysign(math.inf, high if end is low else low) if end == 0 else 1 / end for end in (low, high)]
    return min(ends), max(ends)


def sums(left: Bounds, right: Bounds) -> Bounds:
    return left[0] + right[0], left[1] + right[1]


def negated(bounds: Bounds) -> Bounds:
    return -bounds[1], -bounds[0]


def union(all_bounds: Sequence[Bounds]) -> Bounds:
    return min(low for low, _ in all_bounds), max(high for _, high in all_bounds)


def exponential(end: float) -> float:
    return math.exp(end) if end < 700 else math.inf


def logarithm(end: float) -> float:
    return math.log(end) if end > 0 else -math.inf


def absolute(bounds: Bounds) -> Bounds:
    low, high = bounds
    return max(low, -high, 0.0), max(-low, high)


def clipped(inputs: Sequence[Bounds]) -> Bounds:
    """Clip(x, min, max); min or max may be missing."""
    low, high = inputs[0]
    least = inputs[1][0] if len(inputs) > 1 else -math.inf
    most = inputs[2][1] if len(inputs) > 2 else math.inf
    return min(max(low, least), most), min(max(high, least), most)


def summed(inputs: Sequence[Bounds]) -> Bounds:
    """The sum of an unknown number of values: only its sign is known."""
    low, high = inputs[0]
    return (0.0 if low >= 0 else -math.inf), (0.0 if high <= 0 else math.inf)


def increasing(function: Callable[[float], float]) -> Callable[[Sequence[Bounds]], Bounds]:
    """The rule of a function that never decreases."""
    return lambda inputs: (function(inputs[0][0]), function(inputs[0][1]))


RULES: Mapping[str, Callable[[Sequence[Bounds]], Bounds]] = {
    "Add": lambda inputs: sums(*inputs),
    "Sub": lambda inputs: sums(inputs[0], negated(inputs[1])),
    "Mul": lambda inputs: products(*inputs),
    "Div": lambda inputs: products(inputs[0], reciprocal(inputs[1])),
    "Neg": lambda inputs: negated(inputs[0]),
    "Reciprocal": lambda inputs: reciprocal(inputs[0]),
    "Abs": lambda inputs: absolute(inputs[0]),
    "Relu": increasing(lambda end: max(end, 0.0)),
    "Exp": increasing(exponential),
    "Log": increasing(logarithm),
    "Sqrt": increasing(lambda end: math.sqrt(max(end, 0.0))),
    "Clip": clipped,
    "Sum": lambda inputs: reduce(sums, inputs),
    "Mean": lambda inputs: products(reduce(sums, inputs), (1 / len(inputs), 1 / len(inputs))),
    "Max": lambda inputs: (max(low for low, _ in inputs), max(high for _, high in inputs)),
    "Min": lambda inputs: (min(low for low, _ in inputs), min(high for _, high in inputs)),
    "Concat": union,
    "Where": lambda inputs: union(inputs[1:]),
    "ReduceSum": summed,
}
"""For each operator: the bounds of its inputs -> the bounds of its output."""
