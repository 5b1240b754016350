"""Random damage to the bytes of a file: cut, flipped, repeated, swapped, or overwritten with numbers at the edge."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)
LONGEST_PIECE = 64

Mutator = Callable[[bytes, Random], bytes]


def flip_bits(data: bytes, pick: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(pick.choice((1, 1, 2, 8))):
        changed[pick.randrange(len(changed))] ^= 1 << pick.randrange(8)
    return bytes(changed)


def overwrite_bytes(data: bytes, pick: Random) -> bytes:
    start, piece = piece_of(data, pick)
    return data[:start] + pick.randbytes(len(piece)) + data[start + len(piece) :]


def overwrite_number(data: bytes, pick: Random) -> bytes:
    width, order = pick.choice((1, 2, 4, 8)), pick.choice(("little", "big"))
    start = pick.randrange(len(data))
    number = (pick.choice(EDGES) % (1 << (8 * width))).to_bytes(width, order)  # type: ignore[arg-type]
    return data[:start] + number + data[start + width :]


def cut_end(data: bytes, pick: Random) -> bytes:
    return data[: pick.randrange(len(data))]


def remove_piece(data: bytes, pick: Random) -> bytes:
    start, piece = piece_of(data, pick)
    return data[:start] + data[start + len(piece) :]


def repeat_piece(data: bytes, pick: Random) -> bytes:
    start, piece = piece_of(data, pick)
    return data[:start] + piece * pick.choice((2, 3, 50)) + data[start + len(piece) :]


def copy_piece(data: bytes, pick: Random) -> bytes:
    _, piece = piece_of(data, pick)
    start = pick.randrange(len(data))
    return data[:start] + piece + data[start + len(piece) :]


def piece_of(data: bytes, pick: Random) -> tuple[int, bytes]:
    start = pick.randrange(len(data))
    return start, data[start : start + pick.randint(1, LONGEST_PIECE)]


MUTATORS: tuple[Mutator, ...] = (
    *(flip_bits, overwrite_bytes, overwrite_number, cut_end),
    *(remove_piece, repeat_piece, copy_piece),
)


def mutate(data: bytes, pick: Random) -> bytes:
    """`data` after one to three random changes; it may come out empty."""
    for _ in range(pick.choice((1, 1, 2, 3))):
        if data:
            data = pick.choice(MUTATORS)(data, pick)
    return data
