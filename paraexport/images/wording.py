"""Writes counts and lists for messages."""

from __future__ import annotations

from collections.abc import Sequence


def counted(count: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def shortened(words: Sequence[str], most: int, separator: str = ", ") -> str:
    """The first `most` words, and how many more there are: `a, b and 3 more`."""
    shown = separator.join(words[:most])
    return shown if len(words) <= most else f"{shown} and {len(words) - most} more"
