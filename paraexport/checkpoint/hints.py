"""Finds hints about heads, eps and activation in the attributes of a module, or in an exported graph.

Hints only put the likely candidates of `recognise` first. Its comparison of answers decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import fx, nn

HEAD_ATTRIBUTES = ("num_heads", "heads", "nhead", "n_heads", "num_attention_heads")
VIEWS = frozenset({"view", "reshape", "unflatten", "_unsafe_view"})
ATEN = torch.ops.aten
Value = TypeVar("Value")


@dataclass(frozen=True)
class Hints:
    """Values in the order of appearance, each once. Empty without a hint."""

    heads: tuple[int, ...]
    epsilons: tuple[float, ...]
    activations: tuple[str, ...]


def hints(module: nn.Module, inner: int) -> Hints:
    """Find the hints in a module whose attention has `inner` = heads × head_dim columns."""
    heads: list[int] = []
    epsilons: list[float] = []
    activations: list[str] = []
    for part in module.modules():
        values = [getattr(part, name, None) for name in HEAD_ATTRIBUTES]
        heads += [value for value in values if isinstance(value, int) and value > 0 and inner % value == 0]
        if isinstance(part, nn.LayerNorm):
            epsilons.append(part.eps)
        if isinstance(part, fx.GraphModule):
            for node in part.graph.nodes:
                heads += heads_in(node, inner)
                epsilons += eps_in(node)
                activations += activation_in(node)
    return Hints(unique(heads), unique(epsilons), unique(activations))


def heads_in(node: fx.Node, inner: int) -> Iterator[int]:
    """The number of heads in a reshape to `[…, heads, head_dim]` or `[…, heads, tokens, head_dim]`."""
    if node.op != "call_function" or getattr(node.target, "_opname", "") not in VIEWS:
        return
    sizes = [size for argument in node.args if isinstance(argument, list | tuple) for size in argument]
    for place, count in enumerate(sizes):
        if isinstance(count, int) and count > 0 and inner % count == 0:
            after = sizes[place + 1 : place + 3]
            yield from [count] if after[:1] == [-1] or inner // count in after else []


def eps_in(node: fx.Node) -> Iterator[float]:
    if node.target in (ATEN.layer_norm.default, ATEN.native_layer_norm.default):
        eps = node.args[4] if len(node.args) > 4 else node.kwargs.get("eps", 1e-5)
        if isinstance(eps, float) and 0 < eps < 1:
            yield eps


def activation_in(node: fx.Node) -> Iterator[str]:
    if node.target is ATEN.gelu.default:
        yield "gelu_tanh" if node.kwargs.get("approximate") == "tanh" else "gelu"
    elif node.target in (ATEN.relu.default, ATEN.relu_.default):
        yield "relu"


def unique(values: list[Value]) -> tuple[Value, ...]:
    return tuple(dict.fromkeys(values))
