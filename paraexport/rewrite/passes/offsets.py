"""Offsets into biases: (x + β) W + b = x W + (β W + b), for a constant β along the channels.

The Add vanishes where products are all that reads it. Where a skip reads it too, it stays for the skip, and the
products move below it only if they then read the same x̂ as the products of other branches (`products.worth_folding`).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from paraexport.graph.edit import clean
from paraexport.graph.query import bias_of, result
from paraexport.graph.refusal import Applied, Refused
from paraexport.rewrite.patterns.products import channels, products_reading, set_bias, set_source, worth_folding

NAME = "offsets"


def apply(graph: ir.Graph) -> Applied:
    """Fold until nothing moves: a bias that came from an offset may itself be the offset of the next product."""
    applied = Applied(NAME)
    while True:
        sweep = Applied(NAME)
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


def fold(adding: ir.Node) -> bool:
    """Move the constant of an Add into the products that read it.

    Raises:
        Refused: products read it, but it is no offset of channels, or it does not pay.
    """
    affine = bias_of(adding)
    if affine is None:
        return False
    source, constant = affine
    products, others = products_reading(result(adding))
    if not products:
        return False
    offset = channels(constant, products[0].weight.shape[0])
    worth_folding(source, others)
    for product in products:
        bias = offset @ product.weight.astype(np.float64)
        set_source(product, source)
        set_bias(product, bias if product.bias is None else bias + product.bias)
    return True
