"""Implements the reference Para-Former in PyTorch. Every exported model is compared with it.

Shapes: images [B, C, H, W], tokens [B, N, D] with N = patches (+ 1 class token), heads [B, h, N, d].
The output of each submodule is a named tap (`paraexport.model.taps`), and has the same name in the traced graph.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paraexport.model.spec import Spec
from paraexport.model.taps import record_taps

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


class ParaFormer(nn.Module):
    """logits = head(norm(pool(Σ_l branch_l(embedding(images))))). `spec.norm` defines the place of the norm.

    There is no skip around the sum, and no scale on it (arXiv 2407.21670). With one branch the model is a plain ViT.

    Raises:
        ValueError: the fields of `spec` contradict each other.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        if problems := spec.problems():
            raise ValueError("; ".join(problems))
        self.spec = spec
        self.embedding = Embedding(spec)
        self.branches = nn.ModuleList(Branch(spec) for _ in range(spec.branches))
        self.sum = BranchSum()
        self.pool = TokenPool(spec)
        self.norm = nn.Identity() if spec.norm == "none" else nn.LayerNorm(spec.dim, spec.eps)
        self.head = nn.Linear(spec.dim, spec.classes)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> logits [B, classes]."""
        return self.classify(self.sum(*self.branch_outputs(images)))

    def branch_outputs(self, images: Tensor) -> list[Tensor]:
        """[B, C, H, W] -> the output of each branch, L tensors [B, N, D]; the model adds them up."""
        tokens = self.embedding(images)
        return [branch(tokens) for branch in self.branches]

    def classify(self, tokens: Tensor) -> Tensor:
        """Summed tokens [B, N, D] -> logits [B, classes]."""
        if self.spec.norm == "before":
            pooled = self.pool(self.norm(tokens))
        else:
            pooled = self.norm(self.pool(tokens))
        return self.head(pooled)

    def prefix_logits(self, images: Tensor) -> list[Tensor]:
        """Logits of the first 1, 2, …, L branches. A loss on all of them trains a model that also works with fewer."""
        outputs = self.branch_outputs(images)
        return [self.classify(total) for total in torch.stack(outputs).cumsum(0)]

    def taps(self, images: Tensor) -> dict[str, Tensor]:
        """Every intermediate value by name: `embedding`, `branches.1/layers.0/attention`, `branches.1`, `sum`, …"""
        return record_taps(self, images)


class Embedding(nn.Module):
    """Patches, class token and position embedding: [B, C, H, W] -> tokens [B, N, D]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.patch: nn.Module = ConvPatches(spec) if spec.patch_projection == "conv" else LinearPatches(spec)
        self.class_token = nn.Parameter(torch.randn(1, 1, spec.dim) * 0.02) if spec.class_token else None
        self.position = nn.Parameter(torch.randn(1, spec.tokens, spec.dim) * 0.02)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patch(images)
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        return tokens + self.position


class ConvPatches(nn.Module):
    """Non-overlapping patches through a Conv2d: [B, C, H, W] -> [B, patches, D]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.projection = nn.Conv2d(spec.channels, spec.dim, spec.patch_size, stride=spec.patch_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.projection(images).flatten(2).transpose(1, 2)


class LinearPatches(nn.Module):
    """Non-overlapping patches, flattened as (row, column, channel), into a Linear: [B, C, H, W] -> [B, patches, D]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.grid, self.patch_size, self.channels = spec.grid, spec.patch_size, spec.channels
        features = spec.channels * spec.patch_size[0] * spec.patch_size[1]
        self.norm_in = nn.LayerNorm(features, spec.eps) if spec.patch_norms else nn.Identity()
        self.projection = nn.Linear(features, spec.dim)
        self.norm_out = nn.LayerNorm(spec.dim, spec.eps) if spec.patch_norms else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        (down, across), (height, width) = self.grid, self.patch_size
        # [B, C, rows, h, columns, w] -> [B, rows, columns, h, w, C] -> [B, patches, h·w·C]
        patches = images.reshape(-1, self.channels, down, height, across, width)
        patches = patches.permute(0, 2, 4, 3, 5, 1).reshape(-1, down * across, height * width * self.channels)
        return self.norm_out(self.projection(self.norm_in(patches)))


class Branch(nn.Module):
    """`depth` layers in a row: [B, N, D] -> [B, N, D]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(spec) for _ in range(spec.depth))

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens


class Layer(nn.Module):
    """Attention, then feed-forward, each with its norm and the skip of `spec.residual`: [B, N, D] -> [B, N, D]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.residual = spec.residual
        self.attention_norm = nn.LayerNorm(spec.dim, spec.eps)
        self.attention = Attention(spec)
        self.attention_scale = LayerScale(spec.dim) if spec.layer_scale else nn.Identity()
        self.feed_forward_norm = nn.LayerNorm(spec.dim, spec.eps)
        self.feed_forward = FeedForward(spec)
        self.feed_forward_scale = LayerScale(spec.dim) if spec.layer_scale else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.skip(tokens, self.attention_norm, self.attention, self.attention_scale)
        return self.skip(tokens, self.feed_forward_norm, self.feed_forward, self.feed_forward_scale)

    def skip(self, tokens: Tensor, norm: nn.Module, function: nn.Module, scale: nn.Module) -> Tensor:
        if self.residual == "post":
            return norm(tokens + scale(function(tokens)))
        normalized = norm(tokens)
        carried = tokens if self.residual == "input" else normalized
        return carried + scale(function(normalized))


class Attention(nn.Module):
    """Multi-head softmax(q kᵀ / √d) v (arXiv 1706.03762): [B, N, D] -> [B, N, D]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.heads = spec.heads
        inner = spec.heads * spec.head_dim
        self.query = nn.Linear(spec.dim, inner, bias=spec.qkv_bias)
        self.key = nn.Linear(spec.dim, inner, bias=spec.qkv_bias)
        self.value = nn.Linear(spec.dim, inner, bias=spec.qkv_bias)
        self.output = nn.Linear(inner, spec.dim)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (
            projection(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.output(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two Linears around the activation: [B, N, D] -> [B, N, D]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.fc1 = nn.Linear(spec.dim, spec.mlp_dim)
        self.fc2 = nn.Linear(spec.mlp_dim, spec.dim)
        self.activation = ACTIVATIONS[spec.activation]

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(tokens)))


class LayerScale(nn.Module):
    """One learnt factor for each channel (arXiv 2103.17239): [B, N, D] -> [B, N, D]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.weight


class BranchSum(nn.Module):
    """Σ_l of L tensors [B, N, D], from left to right. It is a module so that the sum has a name."""

    def forward(self, *outputs: Tensor) -> Tensor:
        return functools.reduce(torch.add, outputs)


class TokenPool(nn.Module):
    """[B, N, D] -> [B, D]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.pool = spec.pool
        self.first_patch = int(spec.class_token)

    def forward(self, tokens: Tensor) -> Tensor:
        if self.pool == "cls":
            return tokens[:, 0]
        return tokens.mean(1) if self.pool == "mean" else tokens[:, self.first_patch :].mean(1)
