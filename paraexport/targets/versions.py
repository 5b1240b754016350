"""Compares versions of libraries and drivers."""

from __future__ import annotations

import re

PARTS = 4


def release(version: str) -> tuple[int, ...]:
    """`2.13.0+cpu` -> (2, 13, 0, 0). It always has four numbers, so that 2.13 and 2.13.0 are equal."""
    start = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in start[0].split(".")][:PARTS] if start else []
    return (*numbers, *[0] * (PARTS - len(numbers)))
