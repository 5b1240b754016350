"""The sizes that shapes leave half open: which image and patch, how many heads."""

from __future__ import annotations

import math
from collections.abc import Mapping

from paraexport.checkpoint.canonical import Canonical
from paraexport.checkpoint.given import Given, Guesses
from paraexport.checkpoint.stem import CLASS_TOKEN, POSITION, PROJECTION
from paraexport.errors import SpecError
from paraexport.findings.words import option_text

QUERY = "branches.0.layers.0.attention.query.weight"
UNKNOWN_HEAD_DIM = 64
"""Of nearly every published vision transformer; only a hint, never taken in silence."""


def image_fields(
    canonical: Canonical, shapes: Mapping[str, list[int]], said: Given, guesses: Guesses
) -> tuple[tuple[int, int], int, tuple[int, int]]:
    """(image_size, channels, patch_size); zeros stand for what `guesses` then asks for."""
    channels, patch_size = patch_fields(canonical, shapes[f"{PROJECTION}.weight"], said, guesses)
    if not all(patch_size):
        return (0, 0), 0, (0, 0)
    positions = shapes[POSITION][1]
    tokens = int(CLASS_TOKEN in canonical.tensors)
    # a class token may go without a position of its own (timm's no_embed_class)
    counts = [positions - tokens, positions] if tokens else [positions]
    if said.image_size is not None:
        grid = [image // patch for image, patch in zip(said.image_size, patch_size, strict=True)]
        if math.prod(grid) not in counts:
            size, patch = option_text(said.image_size), option_text(patch_size)
            raise SpecError(
                f"image_size={size} makes {grid[0]} × {grid[1]} patches of {patch}",
                expected=f"{counts[0]} of them, for {positions} positions in {canonical.source(POSITION)}",
                remedy=None if tokens or math.prod(grid) != positions - 1 else "is a class token missing?",
            )
        return said.image_size, channels, patch_size
    if isinstance(said.resize, tuple) and grid_of(said.resize, patch_size) in counts:
        return guesses.assume("image_size", said.resize, "images are resized to it"), channels, patch_size
    for count in counts:
        side = math.isqrt(max(count, 0))
        if side and side * side == count:
            square = side * patch_size[0], side * patch_size[1]
            guesses.assume("image_size", square, f"{count} patches are taken as a square")
            return square, channels, patch_size
    why = f"the {counts[0]} patches that {canonical.source(POSITION)} has positions for are no square"
    if not tokens and math.isqrt(positions - 1) ** 2 == positions - 1:
        why += f" ({positions - 1} would be, with a class token, but no name is that of one)"
    guesses.ask("image_size", why, "HEIGHTxWIDTH")
    return (0, 0), channels, patch_size


def grid_of(image_size: tuple[int, int], patch_size: tuple[int, int]) -> int | None:
    """How many patches an image has, or None where it has no whole number of them."""
    if any(image % patch for image, patch in zip(image_size, patch_size, strict=True)):
        return None
    return math.prod(image // patch for image, patch in zip(image_size, patch_size, strict=True))


def patch_fields(
    canonical: Canonical, projection: list[int], said: Given, guesses: Guesses
) -> tuple[int, tuple[int, int]]:
    if len(projection) == 4:
        if said.patch_order is not None:
            raise SpecError("patch_order is for a Linear, and the patches go through a Conv2d", remedy="leave it out")
        return projection[1], (projection[2], projection[3])
    width = projection[-1]
    if said.patch_size is not None:
        options = [(width // math.prod(said.patch_size), said.patch_size)]
    else:
        sides = {
            channels: math.isqrt(width // channels) for channels in ((said.channels,) if said.channels else (1, 3))
        }
        options = [(channels, (side, side)) for channels, side in sides.items()]
    options = [option for option in options if option[0] * math.prod(option[1]) == width]
    if said.patch_size is not None and not options:
        raise SpecError(
            f"patch_size {option_text(said.patch_size)} does not divide {canonical.source(f'{PROJECTION}.weight')}",
            expected=f"a patch of {width} values over all channels",
        )
    if len(options) != 1:
        why = f"{width} values are no square patch of {said.channels or '1 or 3'} channels"
        guesses.ask("patch_size", why, "HEIGHTxWIDTH")
        return 0, (0, 0)
    channels, patch_size = options[0]
    if said.patch_size is None:
        why = f"{width} values are taken as a square of {said.channels or '1 or 3'} channels"
        guesses.assume("patch_size", patch_size, why)
        if said.channels is None:
            guesses.assume("channels", channels, "the patches are taken as squares of 1 or 3 channels")
    if channels > 1 and said.patch_order is None and not canonical.blocks.convention.patches_by_channel_last:
        guesses.assume("patch_order", "channel_last", "a Linear is taken to read a patch as (row, column, channel)")
    return channels, patch_size


def head_fields(canonical: Canonical, inner: int, dim: int, said: Given, guesses: Guesses) -> tuple[int, int]:
    """(heads, head_dim), whose product is fixed by the weights."""
    heads, head_dim = said.heads, said.head_dim
    if heads is None and head_dim is None:
        heads, head_dim = assumed_heads(canonical, inner, dim, guesses)
    if heads is None and head_dim is None:
        divisors = [count for count in range(1, max(inner, 1) + 1) if inner % count == 0]
        likely = min(divisors, key=lambda count: abs(inner / count - UNKNOWN_HEAD_DIM))
        usual = f"; usual is {inner}/{UNKNOWN_HEAD_DIM}" if inner % UNKNOWN_HEAD_DIM == 0 else ""
        guesses.ask("heads", f"the weights contain only the product heads × head_dim = {inner}{usual}", likely)
        return 0, 0
    found = heads or inner // (head_dim or 1), head_dim or inner // (heads or 1)
    if math.prod(found) != inner:
        said_so = [f"{name}={value}" for name, value in (("heads", heads), ("head_dim", head_dim)) if value]
        raise SpecError(
            f"{' and '.join(said_so)} cannot be",
            expected=f"heads × head_dim = {inner} as in {canonical.source(QUERY)}",
        )
    return found


def assumed_heads(canonical: Canonical, inner: int, dim: int, guesses: Guesses) -> tuple[int | None, int | None]:
    convention = canonical.blocks.convention
    if convention.output_is_optional and lacks_output(canonical) and inner == dim:
        return 1, None  # vit-pytorch leaves the output projection out in this case only
    if convention.head_dim is None or inner % convention.head_dim:
        return None, None
    why = f"dim_head {convention.head_dim} is the default of {convention.name}"
    return guesses.assume("heads", inner // convention.head_dim, why), None


def lacks_output(canonical: Canonical) -> bool:
    return not any(".attention.output." in name for name in canonical.tensors)
