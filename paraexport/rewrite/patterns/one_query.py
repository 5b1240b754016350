"""Attention of one query an image and the products around it, for `absorb`: what must hold, and what it would cost."""

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
    channels_after,
    channels_in_heads,
    check_plain,
    fixed_sizes,
    result_of,
    scale_of_scores,
    through,
    views_after,
    views_before,
)
from paraexport.rewrite.patterns.products import Product, product_at, products_reading

MOST_GROWTH = 2.0
Heads = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Site:
    """One Attention node and the products around it."""

    attention: ir.Node
    query: Product
    key: Product
    value: Product
    out: Product
    query_heads: Heads
    """[h, d]: which column of the query's weight is which channel of which head."""
    key_heads: Heads
    """The same of the key's weight."""
    mixing: tuple[Heads, ...]
    """[2, d] a head: columns of the value's weight, and the rows of the output's weight that read them."""

    @property
    def products(self) -> tuple[Product, ...]:
        return self.query, self.key, self.value, self.out

    @property
    def query_size(self) -> int:
        """Numbers in the constant that stands for the query's and the key's weight."""
        return self.heads * self.query.weight.shape[0] * self.key.weight.shape[0]

    @property
    def output_size(self) -> int:
        """Numbers in the constant that stands for the value's and the output's weight."""
        return self.heads * self.value.weight.shape[0] * self.out.weight.shape[1]

    @property
    def heads(self) -> int:
        return len(self.query_heads)


def has_one_query(attention: ir.Node) -> bool:
    shape = dims(operands(attention)[QUERY])
    return shape is not None and len(shape) == 4 and shape[2] == 1


def site_of(attention: ir.Node) -> Site:
    """What stands around the node.

    Raises:
        Refused: something else than products by constants, a mask, or heads that are shared.
    """
    check_plain(attention)
    scale_of_scores(attention)
    found: list[tuple[Product, Heads]] = []
    for index in (QUERY, KEY, VALUE):
        source, views = views_before(operands(attention)[index])
        product = product_at(source)
        if product is None:
            raise Refused(f"{source.name} is no product by a constant")
        if index != QUERY and product.bias is not None:
            raise Refused(f"{source.name} has a bias")
        if len(fixed_sizes(product.source)) != 3 or len(fixed_sizes(source)) != 3:
            raise Refused(f"{product.source.name} is not [B, N, D]")
        heads = channels_in_heads(source, views, attention)
        check_in_order(source, views)
        if len(np.unique(heads)) != heads.size:
            raise Refused(f"the heads of {source.name} are no parts of its channels")
        found.append((product, heads))
    (query, query_heads), (key, key_heads), (value, value_heads) = found
    if not len(query_heads) == len(key_heads) == len(value_heads):
        raise Refused("several heads of queries share one of keys or values")
    if fixed_sizes(query.source)[1] != 1:
        raise Refused(f"{query.source.name} has several tokens")
    mixed, views = views_after(result_of(attention))
    products, others = products_reading(mixed)
    if others or len(products) != 1 or not is_op(products[0].node, "MatMul") or fixed_sizes(mixed)[1:-1] != (1,):
        raise Refused(f"not one product alone reads {mixed.name}")
    rows = channels_after(value_heads, attention, views)
    of_head = tuple(columns_and_rows(columns, rows) for columns in value_heads)
    return Site(attention, query, key, value, products[0], query_heads, key_heads, of_head)


def check_in_order(source: ir.Value, views: list[ir.Node]) -> None:
    """Raise unless `views` take [B, N, C] to [B, h, N, d] with images and tokens where they were."""
    sizes = fixed_sizes(source)
    for axis, place in ((0, 0), (1, 2)):
        index = np.arange(sizes[axis]).reshape([-1 if one == axis else 1 for one in range(3)])
        seen = through(np.broadcast_to(index, sizes), views)
        wanted = np.arange(sizes[axis]).reshape([-1 if one == place else 1 for one in range(4)])
        if seen.ndim != 4 or seen.shape[place] != sizes[axis] or (seen != wanted).any():
            raise Refused(f"{source.name} has its tokens in another order")


def columns_and_rows(columns: Heads, rows: Heads) -> Heads:
    """The columns of one head of the values, each beside the row of the output's weight that reads it."""
    positions = np.flatnonzero(np.isin(rows, columns))
    return np.stack([rows[positions], positions])


def check_growth(site: Site) -> None:
    """Raise where the weights grow too much, or, with few tokens, the arithmetic grows at all."""
    query, key, value, out = (product.weight for product in (site.query, site.key, site.value, site.out))
    tokens = fixed_sizes(site.key.source)[1]
    old, new = query.size + key.size + value.size + out.size, site.query_size + site.output_size
    if new > MOST_GROWTH * old:
        raise Refused(f"its weights would grow {new / old:.1f} times with {site.heads} heads")
    before = query.size + out.size + tokens * (key.size + value.size + key.shape[1] + value.shape[1])
    after = new + tokens * site.heads * (key.shape[0] + value.shape[0])
    if after >= before:
        raise Refused(f"with {tokens} tokens it would need {after} multiply-adds instead of {before}")


def too_large_together(sites: Sequence[Site]) -> str:
    """Why the sites must stay as they are, where weights that they share would become many; else empty."""
    nodes = {product.node for site in sites for product in site.products}
    weights = {product.shared_weight: product.weight.size for site in sites for product in site.products}
    freed = sum(size for value, size in weights.items() if {use.node for use in value.uses()} <= nodes)
    made = {(site.query.shared_weight, site.key.shared_weight): site.query_size for site in sites}
    made |= {(site.value.shared_weight, site.out.shared_weight): site.output_size for site in sites}
    needed = sum(made.values())
    return f"shared weights of {freed} numbers would become {needed}" if needed > MOST_GROWTH * freed else ""
