"""Value equalisation: attention mixes tokens, not channels, so that a value channel may be scaled, and unscaled later.

Σ_j a_j v_jc = (Σ_j a_j v_jc s_c) / s_c, hence W_v[:, c] ← W_v[:, c] s_c, b_v[c] ← b_v[c] s_c and
W_out[r, :] ← W_out[r, :] / s_c for the row r that reads channel c. With s_c = √(max |W_out[r, :]| / max |W_v[:, c]|)
neither has outliers of its own, which is what quantisation wants (arXiv 1906.04721, for pairs of layers of a CNN).
A factor that is a power of two leaves every rounding as it was.
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
from paraexport.rewrite.patterns.products import MAX_COPIES, Product, ScaledWeights, product_at, products_reading

NAME = "equalise"
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
    """One a channel of the value."""


def apply(graph: ir.Graph, *, factors: Factors | None = None) -> Applied:
    """Equalise every Attention node, or those named in `factors` by the factors given there, one a value channel.

    Raises:
        ValueError: `factors` names what is no Attention node, or holds anything but positive numbers, one a channel.
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
    """What stands before and after an Attention node.

    Raises:
        Refused: these are not products by constants, or something else reads between them.
        ValueError: the factors given are not one positive number a channel.
    """
    source, views = views_before(operands(attention)[VALUE])
    value = product_at(source)
    if value is None:
        raise Refused(f"{source.name} is no product by a constant")
    check_attributes(attention)
    if len(operands(attention)) > VALUE + 2:
        raise Refused("it has a cache, or its scores are read")
    main_result(attention, "it has a cache, or its scores are read")
    heads = channels_in_heads(source, views, attention)
    mixed, views = views_after(result_of(attention))
    products, others = products_reading(mixed)
    if others or not products:
        raise Refused(f"{', '.join(others) or 'nothing'} reads its result, and not products alone")
    sources = channels_after(heads, attention, views)
    factor = balanced(value.weight, [product.weight for product in products], sources) if given is None else given
    if factor.shape != value.weight.shape[1:] or not (np.isfinite(factor) & (factor > 0)).all():
        raise ValueError(f"{attention.name}: expected {value.weight.shape[1]} positive factors, got {factor}")
    return Pair(attention, value, products, sources, factor.astype(np.float64))


def balanced(before: NDArray[Any], after: list[NDArray[Any]], sources: NDArray[np.intp]) -> NDArray[np.float64]:
    """The powers of two that bring the largest weight of each channel before and after attention closest together."""
    columns = np.abs(before.astype(np.float64)).max(0)
    rows = np.zeros_like(columns)
    for weight in after:
        np.maximum.at(rows, sources, np.abs(weight.astype(np.float64)).max(1))
    factor = np.ones_like(columns)
    used = (columns > 0) & (rows > 0)
    factor[used] = 2.0 ** np.round(np.log2(rows[used] / columns[used]) / 2)
    return factor


def pairs_within_limit(pairs: list[Pair], applied: Applied) -> list[Pair]:
    """The pairs that change something, less those that would make more than `MAX_COPIES` of a shared weight."""
    ways: dict[ir.Value, set[bytes]] = defaultdict(set)
    for pair in pairs:
        ways[pair.value.shared_weight].add(pair.factor.tobytes())
        for product in pair.readers:
            ways[product.shared_weight].add(pair.factor[pair.sources].tobytes())
    chosen = []
    for pair in pairs:
        shared = [product.shared_weight for product in (pair.value, *pair.readers)]
        wide = [weight.name for weight in shared if len(ways[weight]) > MAX_COPIES]
        if wide:
            applied.refuse(pair.attention, f"{wide[0]} is shared, and would become more than {MAX_COPIES} weights")
        elif (pair.factor != 1).any():
            chosen.append(pair)
    return chosen


def check_names(factors: Factors, nodes: list[ir.Node]) -> None:
    if unknown := factors.keys() - {node.name for node in nodes}:
        raise ValueError(f"no Attention node is called {', '.join(sorted(unknown))}")
