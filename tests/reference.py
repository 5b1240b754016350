"""The Para-Former stated a second time, in NumPy float64: what loaded, traced and built models are compared with.

Written from the papers and from the names in `Spec`, without `paraexport.model.reference`. Weights go by the names of
that module's state dict, each a float array. Shapes: images [B, C, H, W], tokens [B, N, D], logits [B, classes].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from paraexport.model.spec import Spec

Array = NDArray[np.float64]
Weights = Mapping[str, NDArray[np.floating]]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def logits(weights: Weights, spec: Spec, images: NDArray[np.floating]) -> Array:
    """head(norm(pool(Σ_l branch_l(embedding(images)))))."""
    tokens = embedding(weights, spec, images.astype(np.float64))
    total = np.zeros_like(tokens)
    for index in range(spec.branches):
        total += branch(weights, spec, index, tokens)
    if spec.norm == "before":
        total = layer_norm(weights, "norm", total, spec.eps)
    pooled = pool(spec, total)
    if spec.norm == "after":
        pooled = layer_norm(weights, "norm", pooled, spec.eps)
    return linear(weights, "head", pooled)


def embedding(weights: Weights, spec: Spec, images: Array) -> Array:
    tokens = (
        conv_patches(weights, spec, images)
        if spec.patch_projection == "conv"
        else linear_patches(weights, spec, images)
    )
    if spec.class_token:
        first = np.broadcast_to(weights["embedding.class_token"], (len(images), 1, spec.dim))
        tokens = np.concatenate([first, tokens], axis=1)
    return tokens + weights["embedding.position"]


def conv_patches(weights: Weights, spec: Spec, images: Array) -> Array:
    """A convolution whose stride is its kernel, patch by patch, row by row of patches."""
    kernel, bias = (weights[f"embedding.patch.projection.{leaf}"].astype(np.float64) for leaf in ("weight", "bias"))
    return np.stack([np.einsum("bchw,dchw->bd", patch, kernel) + bias for patch in patches(spec, images)], axis=1)


def linear_patches(weights: Weights, spec: Spec, images: Array) -> Array:
    """Each patch as one vector (row, column, channel)."""
    rows = [patch.transpose(0, 2, 3, 1).reshape(len(images), -1) for patch in patches(spec, images)]
    tokens = np.stack(rows, axis=1)
    if spec.patch_norms:
        tokens = layer_norm(weights, "embedding.patch.norm_in", tokens, spec.eps)
    tokens = linear(weights, "embedding.patch.projection", tokens)
    return layer_norm(weights, "embedding.patch.norm_out", tokens, spec.eps) if spec.patch_norms else tokens


def patches(spec: Spec, images: Array) -> list[Array]:
    """[B, C, H, W] -> patches [B, C, h, w], left to right, then down."""
    (image_height, image_width), (height, width) = spec.image_size, spec.patch_size
    return [
        images[:, :, top : top + height, left : left + width]
        for top in range(0, image_height, height)
        for left in range(0, image_width, width)
    ]


def branch(weights: Weights, spec: Spec, index: int, tokens: Array) -> Array:
    for depth in range(spec.depth):
        tokens = layer(weights, spec, f"branches.{index}.layers.{depth}", tokens)
    return tokens


def layer(weights: Weights, spec: Spec, name: str, tokens: Array) -> Array:
    halves: list[tuple[str, Callable[[Weights, Spec, str, Array], Array]]] = [
        ("attention", attention),
        ("feed_forward", feed_forward),
    ]
    for half, function in halves:
        norm = f"{name}.{half}_norm"
        entering = tokens if spec.residual == "post" else layer_norm(weights, norm, tokens, spec.eps)
        result = function(weights, spec, f"{name}.{half}", entering)
        if spec.layer_scale:
            result = result * weights[f"{name}.{half}_scale.weight"]
        if spec.residual == "input":
            tokens = tokens + result
        elif spec.residual == "normalized":
            tokens = entering + result
        else:
            tokens = layer_norm(weights, norm, tokens + result, spec.eps)
    return tokens


def attention(weights: Weights, spec: Spec, name: str, tokens: Array) -> Array:
    query, key, value = (linear(weights, f"{name}.{part}", tokens) for part in ("query", "key", "value"))
    mixed = []
    for head in range(spec.heads):
        mine = slice(head * spec.head_dim, (head + 1) * spec.head_dim)
        scores = query[..., mine] @ key[..., mine].swapaxes(1, 2) / math.sqrt(spec.head_dim)
        chances = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed.append(chances / chances.sum(axis=-1, keepdims=True) @ value[..., mine])
    return linear(weights, f"{name}.output", np.concatenate(mixed, axis=-1))


def feed_forward(weights: Weights, spec: Spec, name: str, tokens: Array) -> Array:
    return linear(weights, f"{name}.fc2", activate(spec, linear(weights, f"{name}.fc1", tokens)))


def activate(spec: Spec, values: Array) -> Array:
    """GELU x Φ(x) (arXiv 1606.08415), its tanh approximation, or max(x, 0)."""
    if spec.activation == "relu":
        return np.maximum(values, 0)
    if spec.activation == "gelu_tanh":
        return 0.5 * values * (1 + np.tanh(math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)))
    return values * 0.5 * (1 + _erf(values / math.sqrt(2)))


def layer_norm(weights: Weights, name: str, values: Array, eps: float) -> Array:
    """(x − μ) / √(σ² + ε) · γ + β over the last axis, σ² being the biased variance (arXiv 1607.06450)."""
    centred = values - values.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(weights: Weights, name: str, values: Array) -> Array:
    result = values @ weights[f"{name}.weight"].astype(np.float64).T
    bias = weights.get(f"{name}.bias")
    return result if bias is None else result + bias


def pool(spec: Spec, tokens: Array) -> Array:
    if spec.pool == "cls":
        return tokens[:, 0]
    if spec.pool == "patch_mean" and spec.class_token:
        tokens = tokens[:, 1:]
    return tokens.mean(axis=1)
