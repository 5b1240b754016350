"""What a plan of TensorRT-RTX says of itself, which is the only way to see without a GPU what a graph became.

A plan holds a listing in plain text of its tensors and operators. No document describes it: it was found by looking
into plans of 1.7. So nothing is concluded from a plan in which nothing is found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

TENSOR = re.compile(rb'tensor=\{ [^\n]*?name="?([^" ]+)"? [^\n]*? type=(\w+) ')
PRODUCT = re.compile(rb'fully_connected=\{ name="([^"]+)" output=\{[^}]*\} input=\{([^}]*)\}')
QUOTED = re.compile(rb'"([^"]+)"')
NUMBERED = re.compile(r"_U\d+$")
FUSED_ATTENTION = b"fmha"


def products(plan: bytes) -> Mapping[str, tuple[str, ...]]:
    """ONNX node -> the types that its product reads: `float`, `half`, `bf16`, `int8`."""
    types = {name: kind.decode() for name, kind in TENSOR.findall(plan)}
    found: dict[str, tuple[str, ...]] = {}
    for names, inputs in PRODUCT.findall(plan):
        reads = tuple(types.get(one, "unknown") for one in QUOTED.findall(inputs)[:2])
        # Nodes that read the same have become one product, `a+b+c`.
        found.update({NUMBERED.sub("", name): reads for name in names.decode(errors="replace").split("+")})
    return found


def fuses_attention(plan: bytes) -> bool:
    """Whether it holds a kernel that computes an attention at once."""
    return FUSED_ATTENTION in plan
