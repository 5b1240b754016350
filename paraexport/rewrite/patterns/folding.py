"""Folds constants into products until nothing changes, and decides when folding pays. For `scales` and `offsets`."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from paraexport.graph.edit import clean
from paraexport.graph.query import bias_of, readers, scale_of
from paraexport.graph.refusal import Applied, Refused
from paraexport.rewrite.patterns.products import product_at, product_of


def fold_until_stable(graph: ir.Graph, name: str, fold: Callable[[ir.Node], bool]) -> Applied:
    """Call `fold` for every node, again and again until it folds nothing. The refusals are those of the last round."""
    applied = Applied(name)
    while True:
        sweep = Applied(name)
        for node in list(graph):
            try:
                sweep.times += fold(node)
            except Refused as reason:
                sweep.refuse(node, reason)
        clean(graph)
        applied.times += sweep.times
        if not sweep.times:
            applied.refusals = sweep.refusals
            return applied


def check_worth_folding(source: ir.Value, others: list[str]) -> None:
    """Check that folding a Mul or Add of `source` pays, although `others` read it too and so it must stay.

    It pays only if the products then read the same value as products of other branches: the unit norm below several
    scales and offsets. Else no node would vanish, and a product without a bias would get one.

    Raises:
        Refused: it does not pay.
    """
    if not others:
        return
    while (below := affine_source(source)) is not None:
        source = below
    leading_on = [node for node in readers(source) if product_of(node) or scale_of(node) or bias_of(node)]
    if len(leading_on) < 2:
        raise Refused(f"it must stay for {', '.join(others)}, and no other branch reads {source.name}")


def affine_source(value: ir.Value) -> ir.Value | None:
    """x of x ⊙ constant or x + constant; None for other values, and for a product with its bias."""
    affine = scale_of(value.producer()) or bias_of(value.producer())
    return affine[0] if affine is not None and product_at(value) is None else None
