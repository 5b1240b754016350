"""Folds scales into weights, for x [B, N, K] and W [K, J].

Rows: (x ⊙ γ) W = x (diag(γ) W) with γ [K]. Columns: (x W + b) ⊙ γ = x (W ⊙ γ) + b ⊙ γ with γ [J].

By columns, the pass applies to a Mul that is the only reader of a product, such as layer scale; the Mul vanishes. Else
it applies by rows, if products by constants read the Mul, such as the scale of a norm. The Mul vanishes if they are its
only readers. If a skip reads it too, it stays for the skip, and the products read x only if they share it with products
of other branches (`folding.check_worth_folding`).

Products with the same weight and scale share one new constant. The pass refuses if a weight would need more than
`MAX_COPIES` copies, because the branches would lose the weight that they share; and a scale along other axes.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.edit import substitute, take_name
from paraexport.graph.query import only_reader, read_once, readers, result, scale_of
from paraexport.graph.refusal import Applied, Refused
from paraexport.rewrite.patterns.folding import check_worth_folding, fold_until_stable
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
)

NAME = "scales"


def apply(graph: ir.Graph) -> Applied:
    """Counts the folded scales. A Mul may read another Mul."""
    weights = ScaledWeights(graph)
    return fold_until_stable(graph, NAME, lambda node: fold_columns(node, weights) or fold_rows(node, weights))


def fold_columns(scaling: ir.Node, weights: ScaledWeights) -> bool:
    """Move the constant of a Mul into the product that it reads. Returns whether that was possible.

    Raises:
        Refused: it reads a product, but the constant is not a scale of channels, or too many products share the weight.
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
    """Move the constant of a Mul into the products that read it. Returns whether that was possible.

    Raises:
        Refused: products read the Mul, but the constant is not a scale of channels, folding does not pay, or too many
            products share a weight.
    """
    affine = scale_of(scaling)
    if affine is None:
        return False
    source, constant = affine
    products, others = products_reading(result(scaling))
    if not products:
        return False
    factor = channels(constant, products[0].weight.shape[0])
    check_worth_folding(source, others)
    for product in products:
        check_copies(product, "rows")
    for product in products:
        weights.put(product, factor, "rows")
        set_source(product, source)
    return True


def check_copies(product: Product, axis: Axis) -> None:
    """Check that the scales of all its products make at most `MAX_COPIES` of a weight.

    Raises:
        Refused: they make more.
    """
    scales = {scale_key(reader, axis) for reader in readers(product.shared_weight)}
    if len(scales) > MAX_COPIES:
        raise Refused(f"the shared weight {product.shared_weight.name} would become {len(scales)} different weights")


def scale_key(reader: ir.Node, axis: Axis) -> tuple[int, bytes] | None:
    """The key of the constant that scales the product `reader`; None if there is none."""
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
