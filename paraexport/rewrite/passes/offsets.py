"""Folds offsets into biases: (x + β) W + b = x W + (β W + b), for x [B, N, D] and a constant β [D].

The pass applies to an Add of a constant that products by constants read. If only products read it, the Add vanishes. If
a skip reads it too, the Add stays for the skip. The products then read x only if they share it with products of other
branches (`folding.check_worth_folding`). The pass refuses a constant that varies along other axes than the channels.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from paraexport.graph.query import bias_of, result
from paraexport.graph.refusal import Applied
from paraexport.rewrite.patterns.folding import check_worth_folding, fold_until_stable
from paraexport.rewrite.patterns.products import channels, products_reading, set_bias, set_source

NAME = "offsets"


def apply(graph: ir.Graph) -> Applied:
    """Counts the folded offsets. A bias that comes from an offset may be the offset of the next product."""
    return fold_until_stable(graph, NAME, fold)


def fold(adding: ir.Node) -> bool:
    """Move the constant of an Add into the products that read it.

    Raises:
        Refused: products read the Add, but the constant is not an offset of channels, or folding does not pay.
    """
    affine = bias_of(adding)
    if affine is None:
        return False
    source, constant = affine
    products, others = products_reading(result(adding))
    if not products:
        return False
    offset = channels(constant, products[0].weight.shape[0])
    check_worth_folding(source, others)
    for product in products:
        bias = offset @ product.weight.astype(np.float64)
        set_source(product, source)
        set_bias(product, bias if product.bias is None else bias + product.bias)
    return True
