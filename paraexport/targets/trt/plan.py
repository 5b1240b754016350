"""Reads the types of products from a plan of TensorRT-RTX. Without a GPU this is the only way to see them.

A plan lists its tensors and operators in plain text. No document describes this listing; it was found in plans of 1.7.
So a plan without such a listing proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

TENSOR = re.compile(rb'tensor=\{ [^\n]*?name=("[^"]+"|[^" ]+) [^\n]*? type=(\w+) ')
PRODUCT = re.compile(rb'fully_connected=\{ name="([^"]+)" output=\{[^}]*\} input=\{([^}]*)\}')
QUOTED = re.compile(rb'"([^"]+)"')
NUMBERED = re.compile(r"_U\d+$")
PROFILE = re.compile(r" \[profile (\d+)\]")
"""In all names that do not belong to the first profile."""
FUSED_ATTENTION = re.compile(b"fmha")
UNLISTED = "unlisted"


def products(plan: bytes | memoryview, profiles: int) -> Mapping[str, tuple[str, ...]]:
    """ONNX node -> the types that its product reads: `float`, `half`, `bf16`, `int8`.

    If the `profiles` differ, the types of all of them; `unlisted` stands for a profile without this product.
    """
    types = {name.strip(b'"'): dtype.decode() for name, dtype in TENSOR.findall(plan)}
    by_node: dict[str, dict[int, tuple[str, ...]]] = {}
    for names, inputs in PRODUCT.findall(plan):
        reads = tuple(types.get(tensor, "unknown") for tensor in QUOTED.findall(inputs)[:2])
        # TensorRT merges nodes with the same input into one product, `a+b+c`.
        for name in names.decode(errors="replace").split("+"):
            node, profile = in_profile(NUMBERED.sub("", name))
            by_node.setdefault(node, {})[profile] = reads
    return {
        node: combine([by_profile.get(profile, (UNLISTED,)) for profile in range(profiles)])
        for node, by_profile in by_node.items()
    }


def combine(by_profile: list[tuple[str, ...]]) -> tuple[str, ...]:
    if len({*by_profile}) == 1:
        return by_profile[0]
    return tuple(dict.fromkeys(dtype for types in by_profile for dtype in types))


def in_profile(name: str) -> tuple[str, int]:
    """`fc1 [profile 2]` -> `fc1`, 2."""
    match = PROFILE.search(name)
    return PROFILE.sub("", name), int(match[1]) if match else 0


def fuses_attention(plan: bytes | memoryview) -> bool:
    """Whether the plan holds a kernel that computes a whole attention."""
    return FUSED_ATTENTION.search(plan) is not None
