"""Named intermediate values of any module, and the names they carry in a traced graph.

A tap is the output of one submodule. The path `branches.3.layers.1.attention` is written
`branches.3/layers.1/attention`: a list index stays with its list, every other step is a level of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn


def tap_name(module_path: str) -> str:
    """`branches.3.layers.1.attention` -> `branches.3/layers.1/attention`."""
    return re.sub(r"\.(?!\d+(?:\.|$))", "/", module_path)


def record_taps(module: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Run `module` once and return the output tensor of every submodule by its name, in the order of computation.

    A submodule that runs several times keeps its last output; one that does not return a tensor has no tap.
    """
    recorded: dict[str, Tensor] = {}

    def recorder(name: str) -> Callable[[nn.Module, object, object], None]:
        def record(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                recorded[name] = output.detach()

        return record

    hooks = [
        submodule.register_forward_hook(recorder(tap_name(path)))
        for path, submodule in module.named_modules(remove_duplicate=False)
        if path and not isinstance(submodule, nn.Identity)
    ]
    try:
        with torch.no_grad():
            module(images)
    finally:
        for hook in hooks:
            hook.remove()
    return recorded
