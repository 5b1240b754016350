"""Shares normalisation: LN(x) = x̂ ⊙ γ + β with x̂ = (x − μ) / √(σ² + ε), for x [B, N, D] and γ, β [D].

x̂ does not depend on γ and β. So all norms with the same x, axis and ε can share one x̂: a unit norm, which is a
LayerNormalization with a scale of ones and no bias. γ and β go to a Mul and an Add, and `scales` and `offsets` fold
them into products.

The pass applies to norms that share x, and to norms that only products by constants read. With `everywhere` it applies
to all, because stacking needs the constants of each branch outside of the norm. It refuses a norm whose scale or bias
is computed, or whose mean or deviation is read.
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
from paraexport.graph.refusal import Applied, Refused, node_label
from paraexport.graph.shapes import dims
from paraexport.rewrite.patterns.products import products_reading

NAME = "norms"


@dataclass(frozen=True, eq=False)
class Norm:
    """One LayerNormalization by constants."""

    node: ir.Node
    key: tuple[Hashable, ...]
    """Norms with the same key differ only in scale and offset."""
    scale: NDArray[Any]
    offset: NDArray[Any] | None
    """None if there is none, or if all its numbers are zero."""

    @property
    def output(self) -> ir.Value:
        return self.node.outputs[0]

    @property
    def is_unit(self) -> bool:
        return self.offset is None and bool((self.scale == 1).all())


def apply(graph: ir.Graph, *, everywhere: bool = False) -> Applied:
    """Counts the norms that were split into a unit norm, a Mul and an Add."""
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
        to_split = norms if everywhere or len(norms) > 1 else [norm for norm in norms if is_foldable(norm)]
        if len(norms) > 1 or not all(norm.is_unit for norm in to_split):
            split(graph, to_split)
            applied.times += len(to_split)
    clean(graph)
    return applied


def read(node: ir.Node) -> Norm:
    """The constants of a LayerNormalization.

    Raises:
        Refused: its scale or bias is computed, or another node reads its mean or deviation.
    """
    bias = input_of(node, 2)
    gamma, beta = const(input_of(node, 1)), const(bias)
    if gamma is None or (bias is not None and beta is None):
        raise Refused("its scale or bias is computed; expected constants")
    main_result(node, "another node reads its mean or deviation")
    source = operands(node)[0]
    rank = len(dims(source) or ())
    axis = axis_of(node, rank, -1) if rank else int_of(node, "axis", -1)
    key = source, axis, np.float32(float_of(node, "epsilon", 1e-5)), int_of(node, "stash_type", 1)
    return Norm(node, key, gamma, None if beta is None or not beta.any() else beta)


def refuse_unlike(groups: dict[tuple[Hashable, ...], list[Norm]], applied: Applied) -> None:
    """Report norms of one value that cannot share a unit norm."""
    first: dict[Hashable, Norm] = {}
    for (source, *_), norms in groups.items():
        twin = first.setdefault(source, norms[0])
        if twin is not norms[0]:
            applied.refuse(
                norms[0].node,
                f"it normalises what {node_label(twin.node)} does, but with another axis, ε or precision",
            )


def is_foldable(norm: Norm) -> bool:
    """Whether only products by constants read the norm, so that its scale and offset can be folded into them."""
    products, others = products_reading(norm.output)
    return bool(products) and not others


def split(graph: ir.Graph, norms: list[Norm]) -> None:
    """Replace norms of the same key by one unit norm, and a Mul and an Add for each. Equal Muls and Adds are shared."""
    first = norms[0].node
    scope = shared_scope([norm.output.name for norm in norms])
    ones = add_constant(graph, joined(scope, "unit/weight"), np.ones_like(norms[0].scale))
    attributes = {name: attr.value for name, attr in first.attributes.items()}
    name, shape = joined(scope, "unit"), dims(norms[0].output)
    inputs = [operands(first)[0], ones]
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
