"""Records named intermediate values of any module, under the names that they have in a traced graph.

A tap is the output of one submodule. The path `branches.3.layers.1.attention` becomes the name
`branches.3/layers.1/attention`: a list index stays with its list, and every other step is one level.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from paraexport.model.tap_names import tap_name


def record_taps(module: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Run `module` once; returns tap name -> output tensor of every submodule, in the order of computation.

    If a submodule runs several times, its last output is kept. If it does not return a tensor, it has no tap.
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
