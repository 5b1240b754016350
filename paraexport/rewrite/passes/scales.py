"""Scales into weights: (x ⊙ γ) W = x (γ ⊙ W) by rows, and (x W + b) ⊙ γ = x (W ⊙ γ) + b ⊙ γ by columns.

By columns where the Mul reads a product that nobody else reads (layer scale): it always vanishes. Else by rows, where
products read it (the scale of a norm): it vanishes where they are all that reads it. Where a skip reads it as well, it
stays for the skip, and the products move below it only if they then share their x̂ (`products.worth_folding`).

Products with one weight and one scale get one new constant. A weight whose products are scaled in more than
`MAX_COPIES` ways stays, for all of them alike, since the branches would each get their own copy of what they share.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.edit import clean, substitute, take_name
from paraexport.graph.query import only_reader, read_once, readers, result, scale_of
from paraexport.graph.refusal import Applied, Refused
from paraexport.rewrite.patterns.products import (
    MAX_COPIES,
    Axis,
    Product,
    ScaledWeights,
    channels,
    product_at,
    product_of,
    products_reading,
    set_source,
    worth_folding,
)

NAME = "scales"


def apply(graph: ir.Graph) -> Applied:
    """Fold until nothing moves, since a Mul may read another."""
    applied, weights = Applied(NAME), ScaledWeights(graph)
    while True:
        sweep = Applied(NAME)
        for node in list(graph):
            try:
                sweep.times += fold_columns(node, weights) or fold_rows(node, weights)
            except Refused as reason:
                sweep.refuse(node, reason)
        clean(graph)
        applied.times += sweep.times
        if not sweep.times:
            applied.refusals = sweep.refusals
            return applied


def fold_columns(scaling: ir.Node, weights: ScaledWeights) -> bool:
    """Move the constant of a Mul into the product that it reads.

    Raises:
        Refused: it does read one, but it is no scale of channels, or its weight is shared too widely.
    """
    affine = scale_of(scaling)
    if affine is None:
        return False
    source, constant = affine
    product = product_at(source)
    if product is None or not read_once(source):
        return False
    factor = channels(constant, product.weight.shape[1])
    check_copies(product, "columns")
    weights.put_columns(product, factor, f"{source.name}/scaled")
    substitute(result(scaling), source)
    take_name(source, result(scaling))
    return True


def fold_rows(scaling: ir.Node, weights: ScaledWeights) -> bool:
    """Move the constant of a Mul into the products that read it.

    Raises:
        Refused: products read it, but it is no scale of channels, it does not pay, or a weight is shared too widely.
    """
    affine = scale_of(scaling)
    if affine is None:
        return False
    source, constant = affine
    products, others = products_reading(result(scaling))
    if not products:
        return False
    factor = channels(constant, products[0].weight.shape[0])
    worth_folding(source, others)
    for product in products:
        check_copies(product, "rows")
    for product in products:
        weights.put(product, factor, "rows")
        set_source(product, source)
    return True


def check_copies(product: Product, axis: Axis) -> None:
    """Whether scaling the weight, and its other readers in their turn, makes no more than `MAX_COPIES` of it.

    Raises:
        Refused: it makes more.
    """
    scales = {scale_key(reader, axis) for reader in readers(product.shared_weight)}
    if len(scales) > MAX_COPIES:
        raise Refused(f"{product.shared_weight.name} is shared, and would become {len(scales)} different weights")


def scale_key(reader: ir.Node, axis: Axis) -> tuple[int, bytes] | None:
    """By which constant the product `reader` is scaled; None where it is not."""
    product = product_of(reader)
    if product is None:
        return None
    if axis == "rows":
        affine = scale_of(product.source.producer())
    else:
        affine = scale_of(only_reader(product.output))
    return None if affine is None else key_of(affine[1])


def key_of(constant: NDArray[np.generic]) -> tuple[int, bytes]:
    return constant.size, constant.tobytes()
