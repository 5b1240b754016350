"""What a plan of TensorRT-RTX says of itself, which is the only way to see without a GPU what a graph became.

A plan holds a listing in plain text of its tensors and operators. No document describes it: it was found by looking
into plans of 1.7. So nothing is concluded from a plan in which nothing is found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

TENSOR = re.compile(rb'tensor=\{ [^\n]*?name=("[^"]+"|[^" ]+) [^\n]*? type=(\w+) ')
PRODUCT = re.compile(rb'fully_connected=\{ name="([^"]+)" output=\{[^}]*\} input=\{([^}]*)\}')
QUOTED = re.compile(rb'"([^"]+)"')
NUMBERED = re.compile(r"_U\d+$")
PROFILE = re.compile(r" \[profile (\d+)\]")
"""In the names of everything that is not of the first profile."""
FUSED_ATTENTION = re.compile(b"fmha")
UNLISTED = "unlisted"


def products(plan: bytes | memoryview, profiles: int) -> Mapping[str, tuple[str, ...]]:
    """ONNX node -> the types that its product reads: `float`, `half`, `bf16`, `int8`.

    Where they are not the same in all `profiles` it is those of each; `unlisted` stands for a profile without it.
    """
    types = {name.strip(b'"'): kind.decode() for name, kind in TENSOR.findall(plan)}
    found: dict[str, dict[int, tuple[str, ...]]] = {}
    for names, inputs in PRODUCT.findall(plan):
        reads = tuple(types.get(one, "unknown") for one in QUOTED.findall(inputs)[:2])
        # Nodes that read the same have become one product, `a+b+c`.
        for name in names.decode(errors="replace").split("+"):
            node, profile = in_profile(NUMBERED.sub("", name))
            found.setdefault(node, {})[profile] = reads
    return {node: combined([by.get(number, (UNLISTED,)) for number in range(profiles)]) for node, by in found.items()}


def combined(each: list[tuple[str, ...]]) -> tuple[str, ...]:
    return each[0] if len({*each}) == 1 else tuple(dict.fromkeys(kind for types in each for kind in types))


def in_profile(name: str) -> tuple[str, int]:
    """`fc1 [profile 2]` -> `fc1`, 2."""
    found = PROFILE.search(name)
    return PROFILE.sub("", name), int(found[1]) if found else 0


def fuses_attention(plan: bytes | memoryview) -> bool:
    """Whether it holds a kernel that computes an attention at once."""
    return FUSED_ATTENTION.search(plan) is not None
