"""The scale of the scores into the query projection: (q kᵀ) / √d = (q / √d) kᵀ, hence W_q ← W_q / √d, b_q ← b_q / √d.

Pays only where attention is decomposed afterwards, and its scale would be a node of its own.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from paraexport.graph.attributes import attribute, int_of
from paraexport.graph.edit import Applied, Refused, clean, dims, is_op, operands
from paraexport.rewrite.patterns.heads import QUERY, views_before
from paraexport.rewrite.patterns.products import ScaledWeights, product_at

NAME = "query_scale"


def apply(graph: ir.Graph) -> Applied:
    """Do so for every Attention node, whose `scale` is 1 from then on."""
    applied, weights = Applied(NAME), ScaledWeights(graph)
    for node in list(graph):
        if is_op(node, "Attention"):
            try:
                applied.times += fold(node, weights)
            except Refused as reason:
                applied.refuse(node, reason)
    clean(graph)
    return applied


def fold(attention: ir.Node, weights: ScaledWeights) -> bool:
    """Move the scale of one node, which a mask or cap of the scores does not disturb: both come after it."""
    scale = scale_of_scores(attention)
    if scale == 1:
        return False
    query, _ = views_before(operands(attention)[QUERY])
    product = product_at(query)
    if product is None:
        raise Refused(f"{query.name} is no product by a constant")
    weights.put_columns(product, np.full(product.weight.shape[1], scale), f"{query.name}/scaled")
    attention.attributes["scale"] = ir.AttrFloat32("scale", 1.0)
    return True


def scale_of_scores(attention: ir.Node) -> float:
    """What the node multiplies q kᵀ by: its attribute, or else 1/√d.

    Raises:
        Refused: d is not known.
    """
    given, heads = attribute(attention, "scale"), int_of(attention, "q_num_heads", 1)
    if isinstance(given, float):
        return given
    *_, size = dims(operands(attention)[QUERY]) or (None,)
    if not size or not heads:
        raise Refused("the size of a head is not known")
    return float((size / heads) ** -0.5)
