"""Computes attention of one query without keys and values, because products are associative.

Identity, for tokens u [N, D], one query x [1, D] for each image, head h and softmax weights a_h [1, N]:

    scores_h = x W_q,h (u W_k,h)ᵀ = x (W_q,h W_k,hᵀ) uᵀ          Σ_h a_h (u W_v,h) W_o,h = Σ_h (a_h u) (W_v,h W_o,h)

W_q,h W_k,hᵀ and W_v,h W_o,h are new constants [D, D]. Keys and values take 2 N D² multiply-adds; 2 N D for each head
remain. So after early selection (`select`), the last layer of a class-token model computes little for all its tokens.

The pass applies to every Attention node with one query, between products by constants. A head now has constants [D, D]
instead of [D, d]. The pass refuses if the weights would grow more than `one_query.MOST_GROWTH` times, as with many
heads, if the multiply-adds would not decrease, or if something else reads the keys or values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.edit import add_constant, add_node, clean, substitute
from paraexport.graph.query import is_op
from paraexport.graph.refusal import Applied, Refused
from paraexport.graph.shapes import dims
from paraexport.rewrite.patterns.heads import fixed_sizes, result_of, scale_of_scores
from paraexport.rewrite.patterns.one_query import (
    AttentionSite,
    attention_site,
    check_growth,
    has_one_query,
    too_large_together,
)

NAME = "absorb"
Array = NDArray[Any]


def apply(graph: ir.Graph) -> Applied:
    """Counts the Attention nodes that were replaced."""
    applied, sites = Applied(NAME), []
    for node in list(graph):
        if is_op(node, "Attention") and has_one_query(node):
            try:
                site = attention_site(node)
                check_growth(site)
            except Refused as refusal:
                applied.refuse(node, refusal)
            else:
                sites.append(site)
    if reason := too_large_together(sites):
        for site in sites:
            applied.refuse(site.attention, reason)
        return applied
    constants = AbsorbedConstants(graph)
    for site in sites:
        rewire(site, constants)
        applied.times += 1
    clean(graph)
    return applied


class AbsorbedConstants:
    """The new constants. Each pair of weights gets one, so weights that branches share stay shared."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.known: dict[tuple[object, ...], ir.Value] = {}

    def get(self, name: str, key: tuple[object, ...], array: NDArray[np.float64], like: Array) -> ir.Value:
        """The constant for `key`, which is added if it is new, in the type of `like`."""
        if key not in self.known:
            self.known[key] = add_constant(self.graph, name, array.astype(like.dtype))
        return self.known[key]


def absorbed_query(site: AttentionSite, constants: AbsorbedConstants) -> tuple[ir.Value, Array | None]:
    """(weight [D, h·K], bias [h·K] or None) of the product whose result is multiplied by the tokens."""
    query, key = (product.weight.astype(np.float64) for product in (site.query, site.key))
    scale = scale_of_scores(site.attention)
    keys = [scale * key[:, columns].T for columns in site.key_heads]
    weight = np.concatenate(
        [query[:, columns] @ head for columns, head in zip(site.query_heads, keys, strict=True)], axis=1
    )
    shared = (site.query.shared_weight, site.key.shared_weight, site.query_heads.tobytes(), site.key_heads.tobytes())
    value = constants.get(f"{site.query.output.name}/absorbed", (*shared, scale), weight, site.query.weight)
    if site.query.bias is None:
        return value, None
    bias = np.broadcast_to(site.query.bias.astype(np.float64).reshape(-1), query.shape[1:])
    rows = [bias[columns] @ head for columns, head in zip(site.query_heads, keys, strict=True)]
    return value, np.concatenate(rows).astype(site.query.weight.dtype)


def absorbed_output(site: AttentionSite, constants: AbsorbedConstants) -> ir.Value:
    """The weight [h·D, J] of the product that reads the mixed tokens."""
    value, out = (product.weight.astype(np.float64) for product in (site.value, site.out))
    weight = np.concatenate([value[:, columns] @ out[rows] for columns, rows in site.mixing])
    shared = (site.value.shared_weight, site.out.shared_weight, b"".join(rows.tobytes() for rows in site.mixing))
    return constants.get(f"{site.out.output.name}/absorbed", shared, weight, site.out.weight)


def rewire(site: AttentionSite, constants: AbsorbedConstants) -> None:
    """Replace the node, and the product after it, by products of the tokens."""
    node, heads = site.attention, site.heads
    keys, values = site.key.source, site.value.source
    tokens, key_dim, value_dim = fixed_sizes(keys)[1], fixed_sizes(keys)[2], fixed_sizes(values)[2]
    batch = dims(result_of(node))[:1]  # type: ignore[index]
    name = node.name or NAME
    weight, bias = absorbed_query(site, constants)
    query = add_node(
        node, "MatMul", [site.query.source, weight], name=f"{name}/query", shape=(*batch, 1, heads * key_dim)
    )
    if bias is not None:
        added = add_constant(constants.graph, f"{name}/query/bias", bias)
        query = add_node(node, "Add", [query, added], name=f"{name}/query/Add", shape=(*batch, 1, heads * key_dim))
    query = reshaped(node, query, (heads, key_dim), f"{name}/query/Reshape", constants)
    transposed = add_node(
        node, "Transpose", [keys], {"perm": [0, 2, 1]}, name=f"{name}/tokens", shape=(*batch, key_dim, tokens)
    )
    scores = add_node(node, "MatMul", [query, transposed], name=f"{name}/scores", shape=(*batch, heads, tokens))
    mixing = add_node(node, "Softmax", [scores], {"axis": -1}, name=f"{name}/Softmax", shape=(*batch, heads, tokens))
    mixed = add_node(node, "MatMul", [mixing, values], name=f"{name}/mixed", shape=(*batch, heads, value_dim))
    mixed = reshaped(node, mixed, (1, heads * value_dim), f"{name}/mixed/Reshape", constants)
    out = site.out.node
    output = add_node(
        out, "MatMul", [mixed, absorbed_output(site, constants)], name=f"{name}/output", shape=dims(out.outputs[0])
    )
    substitute(out.outputs[0], output)


def reshaped(
    node: ir.Node, value: ir.Value, sizes: tuple[int, int], name: str, constants: AbsorbedConstants
) -> ir.Value:
    """`value` as [B, *sizes]."""
    shape = np.asarray([-1, *sizes], np.int64)
    target = constants.known.setdefault(("shape", sizes), add_constant(constants.graph, f"{name}/shape", shape))
    return add_node(
        node,
        "Reshape",
        [value, target],
        {"allowzero": 1},
        name=name,
        shape=(*dims(value)[:1], *sizes),  # type: ignore[index]
    )
