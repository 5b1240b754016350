"""Equalises value channels: scales each channel before attention, and scales it back after.

Identity: attention mixes tokens, not channels, so Σ_j a_j v_jc = (Σ_j a_j v_jc s_c) / s_c for channel c of v [B, N, C].
Hence W_v[:, c] ← W_v[:, c] s_c, b_v[c] ← b_v[c] s_c, and W_out[r, :] ← W_out[r, :] / s_c for each row r that reads c.

With s_c = √(max |W_out[r, :]| / max |W_v[:, c]|), neither weight has large channels of its own, so quantisation loses
less (arXiv 1906.04721, for pairs of layers of a CNN). Each factor is a power of two, which changes no rounding.

The pass applies to Attention between a product by constants and products by constants. It refuses a cache, other
readers in between, and a shared weight that would become more than `products.MAX_COPIES` weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.edit import clean
from paraexport.graph.query import is_op, main_result, operands
from paraexport.graph.refusal import Applied, Refused
from paraexport.rewrite.patterns.heads import (
    VALUE,
    channels_after,
    channels_in_heads,
    check_attributes,
    result_of,
    views_after,
    views_before,
)
from paraexport.rewrite.patterns.products import (
    MAX_COPIES,
    Product,
    ScaledWeights,
    require_only_products,
    require_product_at,
)

NAME = "equalise"
CACHE_OR_SCORES = "it has a cache, or another node reads its scores"
Factors = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Pair:
    """A value projection and the products that read its channels after attention."""

    attention: ir.Node
    value: Product
    readers: list[Product]
    sources: NDArray[np.intp]
    """Row r of the readers' weights reads channel sources[r] of the value."""
    factor: NDArray[np.float64]
    """One number for each channel of the value."""


def apply(graph: ir.Graph, *, factors: Factors | None = None) -> Applied:
    """Counts the Attention nodes whose value channels were scaled.

    With `factors`, only the named nodes are scaled, by these factors: one for each value channel.

    Raises:
        ValueError: a name in `factors` is not an Attention node, or has not one positive factor for each
        channel.
    """
    applied, weights, pairs = Applied(NAME), ScaledWeights(graph), []
    nodes = [node for node in graph if is_op(node, "Attention")]
    if factors is not None:
        check_names(factors, nodes)
        nodes = [node for node in nodes if node.name in factors]
    for node in nodes:
        try:
            pairs.append(pair_of(node, None if factors is None else factors[node.name or ""]))
        except Refused as reason:
            applied.refuse(node, reason)
    for pair in pairs_within_limit(pairs, applied):
        weights.put_columns(pair.value, pair.factor, f"{pair.value.output.name}/equalised")
        for product in pair.readers:
            weights.put(product, 1 / pair.factor[pair.sources], "rows")
        applied.times += 1
    clean(graph)
    return applied


def pair_of(attention: ir.Node, given: NDArray[np.float64] | None) -> Pair:
    """The products before and after an Attention node, with the factors: those given, or balanced ones.

    Raises:
        Refused: these are not products by constants, or something else reads a value between them.
        ValueError: the given factors are not one positive number for each channel.
    """
    source, views = views_before(operands(attention)[VALUE])
    value = require_product_at(source)
    check_attributes(attention)
    if len(operands(attention)) > VALUE + 2:
        raise Refused(CACHE_OR_SCORES)
    main_result(attention, CACHE_OR_SCORES)
    heads = channels_in_heads(source, views, attention)
    mixed, views = views_after(result_of(attention))
    products = require_only_products(mixed)
    sources = channels_after(heads, attention, views)
    factor = balanced(value.weight, [product.weight for product in products], sources) if given is None else given
    if factor.shape != value.weight.shape[1:] or not (np.isfinite(factor) & (factor > 0)).all():
        raise ValueError(f"{attention.name}: expected {value.weight.shape[1]} positive factors, got {factor}")
    return Pair(attention, value, products, sources, factor.astype(np.float64))


def balanced(before: NDArray[Any], after: list[NDArray[Any]], sources: NDArray[np.intp]) -> NDArray[np.float64]:
    """For each channel, the power of two that best balances its largest weights before and after attention."""
    columns = np.abs(before.astype(np.float64)).max(0)
    rows = np.zeros_like(columns)
    for weight in after:
        np.maximum.at(rows, sources, np.abs(weight.astype(np.float64)).max(1))
    factor = np.ones_like(columns)
    used = (columns > 0) & (rows > 0)
    factor[used] = 2.0 ** np.round(np.log2(rows[used] / columns[used]) / 2)
    return factor


def pairs_within_limit(pairs: list[Pair], applied: Applied) -> list[Pair]:
    """The pairs with a factor other than 1, without those that would make more than `MAX_COPIES` of a shared weight."""
    scalings: dict[ir.Value, set[bytes]] = defaultdict(set)
    for pair in pairs:
        scalings[pair.value.shared_weight].add(pair.factor.tobytes())
        for product in pair.readers:
            scalings[product.shared_weight].add(pair.factor[pair.sources].tobytes())
    within_limit = []
    for pair in pairs:
        shared = [product.shared_weight for product in (pair.value, *pair.readers)]
        too_many = [weight.name for weight in shared if len(scalings[weight]) > MAX_COPIES]
        if too_many:
            applied.refuse(
                pair.attention, f"the shared weight {too_many[0]} would become more than {MAX_COPIES} different weights"
            )
        elif (pair.factor != 1).any():
            within_limit.append(pair)
    return within_limit


def check_names(factors: Factors, nodes: list[ir.Node]) -> None:
    if unknown := factors.keys() - {node.name for node in nodes}:
        raise ValueError(f"no Attention node has the name {', '.join(sorted(unknown))}")
