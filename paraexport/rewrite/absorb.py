"""Attention of one query without keys and values: (q W_kᵀ) uᵀ and (a u) W_v instead of q (u W_k)ᵀ and a (u W_v).

Products are associative. For one query an image, head h, tokens u [N, D] and weights a of the softmax

    scores_h = x W_q,h (u W_k,h)ᵀ = x (W_q,h W_k,hᵀ) uᵀ          Σ_h a_h (u W_v,h) W_o,h = Σ_h (a_h u) (W_v,h W_o,h)

with W_q,h W_k,hᵀ and W_v,h W_o,h [D, D] constants. The tokens are read as they are; of the 2 N D² multiply-adds that
keys and values take, 2 N D a head remain. So after early selection (`select`) the last layer of a class-token model
computes hardly anything for all tokens. A head's constants are [D, D] now instead of twice [D, d]: where the weights
around an attention would grow more than `MOST_GROWTH` times, as with many heads, it is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.rewrite.edit import (
    Applied,
    Refused,
    add_constant,
    add_node,
    clean,
    dims,
    is_op,
    operands,
    substitute,
)
from paraexport.rewrite.heads import (
    KEY,
    QUERY,
    VALUE,
    channels_after,
    channels_in_heads,
    check_plain,
    result_of,
    sizes_of,
    views_after,
    views_before,
)
from paraexport.rewrite.products import Product, product_at, products_reading
from paraexport.rewrite.query_scale import scale_of_scores

NAME = "absorb"
MOST_GROWTH = 2.0
Array = NDArray[Any]
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
    def heads(self) -> int:
        return len(self.query_heads)


def apply(graph: ir.Graph) -> Applied:
    """Do so at every Attention node with one query, whose keys and values nobody else reads."""
    applied, made = Applied(NAME), Constants(graph)
    for node in list(graph):
        if is_op(node, "Attention") and has_one_query(node):
            try:
                site = site_of(node)
                check_growth(site)
            except Refused as reason:
                applied.refuse(node, reason)
                continue
            rewire(site, made)
            applied.times += 1
    clean(graph)
    return applied


def has_one_query(attention: ir.Node) -> bool:
    shape = dims(operands(attention)[QUERY])
    return shape is not None and len(shape) == 4 and shape[2] == 1


def site_of(attention: ir.Node) -> Site:
    """What stands around the node.

    Raises:
        Refused: something else than products by constants, a mask, or heads that are shared.
    """
    check_plain(attention)
    found: list[tuple[Product, Heads]] = []
    for index in (QUERY, KEY, VALUE):
        source, views = views_before(operands(attention)[index])
        product = product_at(source)
        if product is None:
            raise Refused(f"{source.name} is no product by a constant")
        if index != QUERY and product.bias is not None:
            raise Refused(f"{source.name} has a bias")
        if len(sizes_of(product.source)) != 3:
            raise Refused(f"{product.source.name} is not [B, N, D]")
        found.append((product, channels_in_heads(source, views, attention)))
    (query, query_heads), (key, key_heads), (value, value_heads) = found
    if not len(query_heads) == len(key_heads) == len(value_heads):
        raise Refused("several heads of queries share one of keys or values")
    mixed, views = views_after(result_of(attention))
    products, others = products_reading(mixed)
    if others or len(products) != 1 or len(sizes_of(mixed)) != 3 or not is_op(products[0].node, "MatMul"):
        raise Refused(f"not one product alone reads {mixed.name}")
    rows = channels_after(value_heads, attention, views)
    of_head = tuple(columns_and_rows(columns, rows) for columns in value_heads)
    return Site(attention, query, key, value, products[0], query_heads, key_heads, of_head)


def columns_and_rows(columns: Heads, rows: Heads) -> Heads:
    """The columns of one head of the values, each beside the row of the output's weight that reads it."""
    positions = np.flatnonzero(np.isin(rows, columns))
    return np.stack([rows[positions], positions])


def check_growth(site: Site) -> None:
    old = sum(product.weight.size for product in (site.query, site.key, site.value, site.out))
    new = site.heads * (
        site.query.weight.shape[0] * site.key.weight.shape[0] + site.value.weight.shape[0] * site.out.weight.shape[1]
    )
    if new > MOST_GROWTH * old:
        raise Refused(f"its weights would grow {new / old:.1f} times with {site.heads} heads")


class Constants:
    """Makes the constant of each pair of weights once, so that what branches share stays shared."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.made: dict[tuple[object, ...], ir.Value] = {}

    def get(self, name: str, key: tuple[object, ...], array: NDArray[np.float64], like: Array) -> ir.Value:
        if key not in self.made:
            self.made[key] = add_constant(self.graph, name, array.astype(like.dtype))
        return self.made[key]


def absorbed_query(site: Site, made: Constants) -> tuple[ir.Value, Array | None]:
    """(weight [D, h·K], bias [h·K] or None) of the product that gives what is multiplied with the tokens."""
    query, key = (product.weight.astype(np.float64) for product in (site.query, site.key))
    scale = scale_of_scores(site.attention)
    keys = [scale * key[:, columns].T for columns in site.key_heads]
    weight = np.concatenate(
        [query[:, columns] @ head for columns, head in zip(site.query_heads, keys, strict=True)], axis=1
    )
    shared = (site.query.shared_weight, site.key.shared_weight, site.query_heads.tobytes(), site.key_heads.tobytes())
    value = made.get(f"{site.query.output.name}/absorbed", (*shared, scale), weight, site.query.weight)
    if site.query.bias is None:
        return value, None
    bias = np.broadcast_to(site.query.bias.astype(np.float64).reshape(-1), query.shape[1:])
    rows = [bias[columns] @ head for columns, head in zip(site.query_heads, keys, strict=True)]
    return value, np.concatenate(rows).astype(site.query.weight.dtype)


def absorbed_output(site: Site, made: Constants) -> ir.Value:
    """The weight [h·D, J] of the product that reads the mixed tokens."""
    value, out = (product.weight.astype(np.float64) for product in (site.value, site.out))
    weight = np.concatenate([value[:, columns] @ out[rows] for columns, rows in site.mixing])
    shared = (site.value.shared_weight, site.out.shared_weight, b"".join(one.tobytes() for one in site.mixing))
    return made.get(f"{site.out.output.name}/absorbed", shared, weight, site.out.weight)


def rewire(site: Site, made: Constants) -> None:
    """Write the node anew as products of the tokens themselves, and give its readers the result."""
    node, heads = site.attention, site.heads
    keys, values = site.key.source, site.value.source
    tokens, key_dim, value_dim = sizes_of(keys)[1], sizes_of(keys)[2], sizes_of(values)[2]
    batch = dims(result_of(node))[:1]  # type: ignore[index]
    name = node.name or NAME
    weight, bias = absorbed_query(site, made)
    query = add_node(
        node, "MatMul", [site.query.source, weight], name=f"{name}/query", shape=(*batch, 1, heads * key_dim)
    )
    if bias is not None:
        added = add_constant(made.graph, f"{name}/query/bias", bias)
        query = add_node(node, "Add", [query, added], name=f"{name}/query/Add", shape=(*batch, 1, heads * key_dim))
    query = in_shape(node, query, (heads, key_dim), f"{name}/query/Reshape", made)
    turned = add_node(
        node, "Transpose", [keys], {"perm": [0, 2, 1]}, name=f"{name}/tokens", shape=(*batch, key_dim, tokens)
    )
    scores = add_node(node, "MatMul", [query, turned], name=f"{name}/scores", shape=(*batch, heads, tokens))
    mixing = add_node(node, "Softmax", [scores], {"axis": -1}, name=f"{name}/Softmax", shape=(*batch, heads, tokens))
    mixed = add_node(node, "MatMul", [mixing, values], name=f"{name}/mixed", shape=(*batch, heads, value_dim))
    mixed = in_shape(node, mixed, (1, heads * value_dim), f"{name}/mixed/Reshape", made)
    out = site.out.node
    whole = add_node(
        out, "MatMul", [mixed, absorbed_output(site, made)], name=f"{name}/output", shape=dims(out.outputs[0])
    )
    substitute(out.outputs[0], whole)


def in_shape(node: ir.Node, value: ir.Value, sizes: tuple[int, int], name: str, made: Constants) -> ir.Value:
    """`value` as [B, *sizes]."""
    shape = np.asarray([-1, *sizes], np.int64)
    target = made.made.setdefault(("shape", sizes), add_constant(made.graph, f"{name}/shape", shape))
    return add_node(
        node,
        "Reshape",
        [value, target],
        {"allowzero": 1},
        name=name,
        shape=(*dims(value)[:1], *sizes),  # type: ignore[index]
    )
