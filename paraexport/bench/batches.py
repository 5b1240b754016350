"""Reads lists of batch sizes: `1,8,32` or `1-64*2`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from paraexport.errors import InputError

MOST_SIZES = 64
PART = re.compile(r"(\d{1,9})(?:-(\d{1,9})(?:([*+])(\d{1,9}))?)?")


def parse_batches(text: str) -> tuple[int, ...]:
    """`1,8,32` -> 1, 8, 32; `1-64*2` -> 1, 2, 4, …, 64; `8-32+8` -> 8, 16, 24, 32; `1-4` -> 1, 2, 3, 4.

    Raises:
        InputError: the text has another form, a size is 0, or there are too many.
    """
    sizes = sorted({size for part in text.split(",") for size in sizes_in(part.strip(), text)})
    if len(sizes) > MOST_SIZES:
        raise refusal(text, f"{len(sizes)} sizes, at most {MOST_SIZES} are possible")
    return tuple(sizes)


def sizes_in(part: str, text: str) -> Iterator[int]:
    match = PART.fullmatch(part)
    if match is None:
        raise refusal(text, repr(part))
    first, last, sign, step = int(match[1]), int(match[2] or match[1]), match[3] or "+", int(match[4] or 1)
    if not 0 < first <= last or step < 1 or (sign == "*" and step < 2):
        raise refusal(text, repr(part))
    size, count = first, 0
    while size <= last and count <= MOST_SIZES:
        yield size
        size, count = (size * step if sign == "*" else size + step), count + 1


def refusal(text: str, got: str) -> InputError:
    expected = "sizes such as 1,8,32, or ranges such as 1-64*2 and 8-32+8"
    return InputError("invalid batch sizes", where=f"--batch {text}", expected=expected, got=got)
