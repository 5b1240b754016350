"""Writes module paths as names of taps. A tap is the output of one submodule."""

from __future__ import annotations

import re


def tap_name(module_path: str) -> str:
    """`branches.3.layers.1.attention` -> `branches.3/layers.1/attention`: a list index stays with its list."""
    return re.sub(r"\.(?!\d+(?:\.|$))", "/", module_path)
