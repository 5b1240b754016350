"""Shared normalisation: LN(x) = x̂ ⊙ γ + β with x̂ = (x − μ) / √(σ² + ε).

x̂ does not depend on γ and β, so that all norms of one x, axes and ε share one x̂: a LayerNormalization with a scale of
ones and no bias. The constants γ and β then stand in a Mul and an Add, from where `scales` and `offsets` fold them.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.attributes import axis_of, float_of, int_of
from paraexport.graph.edit import add_constant, add_node, clean, substitute, take_name
from paraexport.graph.naming import joined, shared_scope
from paraexport.graph.query import const, input_of, is_op, main_result, operands
from paraexport.graph.refusal import Applied, Refused
from paraexport.graph.shapes import dims
from paraexport.rewrite.patterns.products import products_reading

NAME = "norms"


@dataclass(frozen=True, eq=False)
class Norm:
    """One LayerNormalization by constants."""

    node: ir.Node
    key: tuple[Hashable, ...]
    """Norms of the same key differ in scale and offset only."""
    scale: NDArray[Any]
    offset: NDArray[Any] | None
    """None where there is none, or nothing but zeros."""

    @property
    def output(self) -> ir.Value:
        return self.node.outputs[0]

    @property
    def is_unit(self) -> bool:
        return self.offset is None and bool((self.scale == 1).all())


def apply(graph: ir.Graph, *, everywhere: bool = False) -> Applied:
    """Split the norms that share their x with another, and those whose scale and offset products take in.

    With `everywhere` all are split, for stacking, which needs the constants of each branch outside of the norm.
    """
    applied = Applied(NAME)
    groups: dict[tuple[Hashable, ...], list[Norm]] = {}
    for node in graph:
        if is_op(node, "LayerNormalization"):
            try:
                norm = read(node)
            except Refused as reason:
                applied.refuse(node, reason)
            else:
                groups.setdefault(norm.key, []).append(norm)
    refuse_unlike(groups, applied)
    for norms in groups.values():
        chosen = norms if everywhere or len(norms) > 1 else [norm for norm in norms if vanishes(norm)]
        if len(norms) > 1 or not all(norm.is_unit for norm in chosen):
            split(graph, chosen)
            applied.times += len(chosen)
    clean(graph)
    return applied


def read(node: ir.Node) -> Norm:
    """The norm that a LayerNormalization is.

    Raises:
        Refused: its scale or bias is computed, or its mean or deviation is read.
    """
    bias = input_of(node, 2)
    gamma, beta = const(input_of(node, 1)), const(bias)
    if gamma is None or (bias is not None and beta is None):
        raise Refused("its scale or bias is not a constant")
    main_result(node, "its mean or deviation is read")
    source = operands(node)[0]
    rank = len(dims(source) or ())
    axis = axis_of(node, rank, -1) if rank else int_of(node, "axis", -1)
    key = source, axis, np.float32(float_of(node, "epsilon", 1e-5)), int_of(node, "stash_type", 1)
    return Norm(node, key, gamma, None if beta is None or not beta.any() else beta)


def refuse_unlike(groups: dict[tuple[Hashable, ...], list[Norm]], applied: Applied) -> None:
    """Say which norms of one value cannot be one."""
    first: dict[Hashable, Norm] = {}
    for (source, *_), norms in groups.items():
        twin = first.setdefault(source, norms[0])
        if twin is not norms[0]:
            applied.refuse(
                norms[0].node, f"normalises what {twin.node.name} does, but with another axis, ε or precision"
            )


def vanishes(norm: Norm) -> bool:
    """Whether all that reads the norm can take in its scale and offset."""
    found, others = products_reading(norm.output)
    return bool(found) and not others


def split(graph: ir.Graph, norms: list[Norm]) -> None:
    """Let norms of one key share one unit norm; those with equal constants become one altogether."""
    first = norms[0].node
    scope = shared_scope([norm.output.name for norm in norms])
    one = add_constant(graph, joined(scope, "unit/weight"), np.ones_like(norms[0].scale))
    attributes = {name: attr.value for name, attr in first.attributes.items()}
    name, shape = joined(scope, "unit"), dims(norms[0].output)
    inputs = [operands(first)[0], one]
    unit = add_node(first, "LayerNormalization", inputs, attributes, name=name, shape=shape, version=first.version)
    known: dict[tuple[ir.Value, str, bytes], ir.Value] = {}
    for norm in norms:
        value, taken = unit, {*known.values(), unit}
        for op_type, role, array in (("Mul", "scale", norm.scale), ("Add", "offset", norm.offset)):
            if array is None or (op_type == "Mul" and (array == 1).all()):
                continue
            key = value, op_type, array.tobytes()
            if key not in known:
                constant = add_constant(graph, f"{norm.output.name}/{role}", array)
                name, shape = f"{norm.output.name}/{op_type}", dims(norm.output)
                known[key] = add_node(norm.node, op_type, [value, constant], name=name, shape=shape)
            value = known[key]
        substitute(norm.output, value)
        if value not in taken:
            take_name(value, norm.output)
