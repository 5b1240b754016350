"""Writes values as text: options, sizes, and counts with nouns."""

from __future__ import annotations

from collections.abc import Sequence


def option_text(value: object) -> str:
    """Write a value as `--spec` takes it: (32, 48) -> `32x48`, True -> `true`, (0.5, 0.4) -> `0.5,0.4`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        sides = len(value) == 2 and all(isinstance(side, int) for side in value)
        return ("x" if sides else ",").join(map(str, value))
    return str(value)


def size_text(size_bytes: int) -> str:
    """1536 -> `1.5 kB`, in powers of 1000."""
    size = float(size_bytes)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def count_text(number: int | None) -> str:
    """7046784 -> `7.05 M`, with three digits; a dash for None."""
    if number is None:
        return "-"
    value, units = float(number), ["", " k", " M", " G", " T"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{number:,}" if units[0] == "" else f"{f'{value:#.3g}'.rstrip('.')}{units[0]}"


def percent(share: float | None, digits: int = 1) -> str:
    """0.125 -> `12.5 %`; a dash for None."""
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def counted(number: int, noun: str) -> str:
    """1, "image" -> `1 image`; 2, "branch" -> `2 branches`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun}{'es' if noun.endswith(('s', 'x', 'ch', 'sh')) else 's'}"


def first_words(words: Sequence[str], most: int) -> str:
    """The first of some words: `cat, dog, …`."""
    return ", ".join([*words[:most], *(["…"] if len(words) > most else [])])
