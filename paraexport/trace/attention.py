"""Replaces nn.MultiheadAttention during a trace: separate products for query, key and value, and the batch in front.

PyTorch's own module moves the batch behind the tokens and cuts one packed product into three. The numbers are the same,
but such branches cannot be stacked, and the three products have no names of their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SeparateAttention(nn.Module):
    """Computes the same as `source` for [B, N, D], with one Linear each for query, key and value.

    Calls with a mask go to `source`.
    """

    def __init__(self, source: nn.MultiheadAttention) -> None:
        super().__init__()
        self.source = source
        self.heads = source.num_heads
        self.batch_first = True  # nn.TransformerEncoder asks for it
        if source.in_proj_weight is not None:
            weights = source.in_proj_weight.detach().chunk(3)
        else:
            weights = (source.q_proj_weight, source.k_proj_weight, source.v_proj_weight)
        biases = (None,) * 3 if source.in_proj_bias is None else source.in_proj_bias.detach().chunk(3)
        self.query, self.key, self.value = map(linear, weights, biases)
        self.out_proj = source.out_proj

    def __getattr__(self, name: str) -> Any:
        """The other attributes of `source`, such as `embed_dim`. A module around it may read them."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("source"), name)

    def forward(  # noqa: PLR0917 (the signature is PyTorch's)
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        if key_padding_mask is not None or attn_mask is not None or is_causal or query.ndim != 3:
            result: tuple[Tensor, Tensor | None] = self.source(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
            return result
        q, k, v = (
            product(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for product, tokens in ((self.query, query), (self.key, key), (self.value, value))
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        weights = None
        if need_weights:  # the exporter removes them again if nothing reads them
            weights = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1)
            weights = weights.mean(1) if average_attn_weights else weights
        return self.out_proj(mixed), weights


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def can_be_separated(module: nn.Module) -> bool:
    """Whether the module is an unchanged nn.MultiheadAttention with the batch in front.

    Hooks are excluded: its own forward never calls `out_proj`, so a hook there would run only in the replacement.
    """
    return (
        type(module) is nn.MultiheadAttention
        and module.batch_first
        and module.bias_k is None
        and not module.add_zero_attn
        and not (module.training and module.dropout)
        and not any(
            hooks for part in (module, module.out_proj) for hooks in (part._forward_hooks, part._forward_pre_hooks)
        )
    )


@contextlib.contextmanager
def separate_attention(module: nn.Module) -> Iterator[None]:
    """Replace every suitable nn.MultiheadAttention inside `module` by a `SeparateAttention`, until the block ends."""
    # named_children would skip the second name of a child that has two.
    places = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent._modules.items()
        if child is not None and can_be_separated(child)
    ]
    separated = {child: SeparateAttention(child) for _, _, child in places}  # type: ignore[arg-type]
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        for parent, name, child in places:
            setattr(parent, name, separated[child])
        torch.backends.mha.set_fastpath_enabled(False)  # the fast path reads the packed weights itself
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for parent, name, child in places:
            setattr(parent, name, child)
