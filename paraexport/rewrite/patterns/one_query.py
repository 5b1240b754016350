"""Finds attention with one query for each image and the products around it, and checks the cost of `absorb`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.query import is_op, operands
from paraexport.graph.refusal import Refused
from paraexport.graph.shapes import dims
from paraexport.rewrite.patterns.heads import (
    KEY,
    QUERY,
    VALUE,
    apply_views,
    channels_after,
    channels_in_heads,
    check_plain,
    fixed_sizes,
    result_of,
    scale_of_scores,
    views_after,
    views_before,
)
from paraexport.rewrite.patterns.products import Product, products_reading, require_product_at

MOST_GROWTH = 2.0
"""The largest allowed growth of the weights around an attention."""
Heads = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class AttentionSite:
    """One Attention node and the four products around it."""

    attention: ir.Node
    query: Product
    key: Product
    value: Product
    out: Product
    query_heads: Heads
    """[h, d]: the column of the query's weight for each channel of each head."""
    key_heads: Heads
    """The same for the key's weight."""
    mixing: tuple[Heads, ...]
    """For each head [2, d]: columns of the value's weight, and the rows of the output's weight that read them."""

    @property
    def products(self) -> tuple[Product, ...]:
        return self.query, self.key, self.value, self.out

    @property
    def query_size(self) -> int:
        """The numbers in the constant that replaces the weights of query and key."""
        return self.heads * self.query.weight.shape[0] * self.key.weight.shape[0]

    @property
    def output_size(self) -> int:
        """The numbers in the constant that replaces the weights of value and output."""
        return self.heads * self.value.weight.shape[0] * self.out.weight.shape[1]

    @property
    def heads(self) -> int:
        return len(self.query_heads)


def has_one_query(attention: ir.Node) -> bool:
    shape = dims(operands(attention)[QUERY])
    return shape is not None and len(shape) == 4 and shape[2] == 1


def attention_site(attention: ir.Node) -> AttentionSite:
    """The products around the node.

    Raises:
        Refused: the node has a mask, shares heads, or is not between products by constants.
    """
    check_plain(attention)
    scale_of_scores(attention)
    projections: list[tuple[Product, Heads]] = []
    for index in (QUERY, KEY, VALUE):
        source, views = views_before(operands(attention)[index])
        product = require_product_at(source)
        if index != QUERY and product.bias is not None:
            raise Refused(f"the key or value projection {source.name} has a bias")
        if len(fixed_sizes(product.source)) != 3 or len(fixed_sizes(source)) != 3:
            raise Refused(f"{product.source.name} has not three axes; expected [B, N, D]")
        heads = channels_in_heads(source, views, attention)
        check_in_order(source, views)
        if len(np.unique(heads)) != heads.size:
            raise Refused(f"the heads of {source.name} use a channel more than once")
        projections.append((product, heads))
    (query, query_heads), (key, key_heads), (value, value_heads) = projections
    if not len(query_heads) == len(key_heads) == len(value_heads):
        raise Refused("several query heads share one key or value head")
    if fixed_sizes(query.source)[1] != 1:
        raise Refused(f"{query.source.name} has several tokens; expected one query")
    mixed, views = views_after(result_of(attention))
    products, others = products_reading(mixed)
    if others or len(products) != 1 or not is_op(products[0].node, "MatMul") or fixed_sizes(mixed)[1:-1] != (1,):
        raise Refused(f"{mixed.name} must have one reader, a MatMul by a constant")
    rows = channels_after(value_heads, attention, views)
    mixing = tuple(columns_and_rows(columns, rows) for columns in value_heads)
    return AttentionSite(attention, query, key, value, products[0], query_heads, key_heads, mixing)


def check_in_order(source: ir.Value, views: list[ir.Node]) -> None:
    """Refuse views from [B, N, C] to [B, h, N, d] that reorder samples or tokens.

    The numbers of the samples, and then of the tokens, go through the views. They must arrive in order at their axis.
    """
    sizes = fixed_sizes(source)
    for axis, axis_after in ((0, 0), (1, 2)):
        numbers = np.arange(sizes[axis]).reshape([-1 if each == axis else 1 for each in range(3)])
        arrived = apply_views(np.broadcast_to(numbers, sizes), views)
        expected = np.arange(sizes[axis]).reshape([-1 if each == axis_after else 1 for each in range(4)])
        if arrived.ndim != 4 or arrived.shape[axis_after] != sizes[axis] or (arrived != expected).any():
            raise Refused(f"a Reshape or Transpose changes the order of the samples or tokens of {source.name}")


def columns_and_rows(columns: Heads, rows: Heads) -> Heads:
    """[2, d]: the columns of one value head, and the row of the output's weight that reads each of them."""
    positions = np.flatnonzero(np.isin(rows, columns))
    return np.stack([rows[positions], positions])


def check_growth(site: AttentionSite) -> None:
    """Refuse a site whose weights would grow too much, or whose multiply-adds would not decrease.

    With few tokens, the products of the keys and values are cheaper than the larger constants.
    """
    query, key, value, out = (product.weight for product in (site.query, site.key, site.value, site.out))
    tokens = fixed_sizes(site.key.source)[1]
    old, new = query.size + key.size + value.size + out.size, site.query_size + site.output_size
    if new > MOST_GROWTH * old:
        raise Refused(
            f"with {site.heads} heads, its weights would grow {new / old:.1f} times; the limit is {MOST_GROWTH:g}"
        )
    before = query.size + out.size + tokens * (key.size + value.size + key.shape[1] + value.shape[1])
    after = new + tokens * site.heads * (key.shape[0] + value.shape[0])
    if after >= before:
        raise Refused(f"with {tokens} tokens, it would need {after} multiply-adds instead of {before}")


def too_large_together(sites: Sequence[AttentionSite]) -> str:
    """The reason to change none of the sites, if the weights that they share would grow too much; else empty."""
    nodes = {product.node for site in sites for product in site.products}
    weights = {product.shared_weight: product.weight.size for site in sites for product in site.products}
    freed = sum(size for value, size in weights.items() if {use.node for use in value.uses()} <= nodes)
    needed_by = {(site.query.shared_weight, site.key.shared_weight): site.query_size for site in sites}
    needed_by |= {(site.value.shared_weight, site.out.shared_weight): site.output_size for site in sites}
    needed = sum(needed_by.values())
    too_large = f"weights of {freed} numbers, which several attentions share, would become {needed} numbers"
    return too_large if needed > MOST_GROWTH * freed else ""
