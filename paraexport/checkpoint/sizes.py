"""Settles the sizes that shapes do not fully determine: image, patch and heads."""

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
"""The head size of nearly every published vision transformer. It is only used as a hint in messages."""


def image_fields(
    canonical: Canonical, shapes: Mapping[str, list[int]], given: Given, guesses: Guesses
) -> tuple[tuple[int, int], int, tuple[int, int]]:
    """(image_size, channels, patch_size). A zero means that `guesses` asks for the field."""
    channels, patch_size = patch_fields(canonical, shapes[f"{PROJECTION}.weight"], given, guesses)
    if not all(patch_size):
        return (0, 0), 0, (0, 0)
    positions = shapes[POSITION][1]
    tokens = int(CLASS_TOKEN in canonical.tensors)
    # a class token may have no position (timm's no_embed_class)
    counts = [positions - tokens, positions] if tokens else [positions]
    if given.image_size is not None:
        grid = [image // patch for image, patch in zip(given.image_size, patch_size, strict=True)]
        if math.prod(grid) not in counts:
            size, patch = option_text(given.image_size), option_text(patch_size)
            raise SpecError(
                f"image_size={size} gives {grid[0]} × {grid[1]} patches of {patch}",
                expected=f"{counts[0]} patches, for {positions} positions in {canonical.source(POSITION)}",
                remedy=None if tokens or math.prod(grid) != positions - 1 else "check whether a class token is missing",
            )
        return given.image_size, channels, patch_size
    if isinstance(given.resize, tuple) and grid_of(given.resize, patch_size) in counts:
        return guesses.assume("image_size", given.resize, "images are resized to this size"), channels, patch_size
    for count in counts:
        side = math.isqrt(max(count, 0))
        if side and side * side == count:
            square = side * patch_size[0], side * patch_size[1]
            guesses.assume("image_size", square, f"{count} patches are assumed to form a square")
            return square, channels, patch_size
    why = f"{canonical.source(POSITION)} has positions for {counts[0]} patches, which form no square"
    if not tokens and math.isqrt(positions - 1) ** 2 == positions - 1:
        why += f" ({positions - 1} would, with a class token, but no tensor has its name)"
    guesses.ask("image_size", why, (patch_size[0], patch_size[1] * counts[0]))
    return (0, 0), channels, patch_size


def grid_of(image_size: tuple[int, int], patch_size: tuple[int, int]) -> int | None:
    """The number of patches of an image; None if it is not whole."""
    if any(image % patch for image, patch in zip(image_size, patch_size, strict=True)):
        return None
    return math.prod(image // patch for image, patch in zip(image_size, patch_size, strict=True))


def patch_fields(
    canonical: Canonical, projection: list[int], given: Given, guesses: Guesses
) -> tuple[int, tuple[int, int]]:
    if len(projection) == 4:
        if given.patch_order is not None:
            raise SpecError("patch_order is for a Linear, but the patch projection is a Conv2d", remedy="leave it out")
        return projection[1], (projection[2], projection[3])
    width = projection[-1]
    if given.patch_size is not None:
        options = [(width // math.prod(given.patch_size), given.patch_size)]
    else:
        sides = {
            channels: math.isqrt(width // channels) for channels in ((given.channels,) if given.channels else (1, 3))
        }
        options = [(channels, (side, side)) for channels, side in sides.items()]
    options = [option for option in options if option[0] * math.prod(option[1]) == width]
    if given.patch_size is not None and not options:
        raise SpecError(
            f"patch_size {option_text(given.patch_size)} does not divide {canonical.source(f'{PROJECTION}.weight')}",
            expected=f"a patch of {width} values over all channels",
        )
    if len(options) != 1:
        why = f"{width} values form no square patch of {given.channels or '1 or 3'} channels"
        guesses.ask("patch_size", why, (1, width // (given.channels or 1)), ("channels", "image_size"))
        return 0, (0, 0)
    channels, patch_size = options[0]
    if given.patch_size is None:
        why = f"{width} values are assumed to form a square of {given.channels or '1 or 3'} channels"
        guesses.assume("patch_size", patch_size, why)
        if given.channels is None:
            guesses.assume("channels", channels, "the patches are assumed to be squares of 1 or 3 channels")
    if channels > 1 and given.patch_order is None and not canonical.blocks.convention.patches_by_channel_last:
        guesses.assume("patch_order", "channel_last", "a Linear is assumed to read a patch as (row, column, channel)")
    return channels, patch_size


def head_fields(canonical: Canonical, inner: int, dim: int, given: Given, guesses: Guesses) -> tuple[int, int]:
    """(heads, head_dim). The weights determine their product."""
    heads, head_dim = given.heads, given.head_dim
    if heads is None and head_dim is None:
        heads, head_dim = assumed_heads(canonical, inner, dim, guesses)
    if heads is None and head_dim is None:
        dims = [size for size in range(1, max(inner, 1) + 1) if inner % size == 0]
        dims.sort(key=lambda size: abs(size - UNKNOWN_HEAD_DIM))
        why = f"the weights only contain the product heads × head_dim = {inner}"
        guesses.choose("heads", why, [inner // size for size in dims], ("head_dim",))
        return 0, 0
    both = heads or inner // (head_dim or 1), head_dim or inner // (heads or 1)
    if math.prod(both) != inner:
        fields = [f"{name}={value}" for name, value in (("heads", heads), ("head_dim", head_dim)) if value]
        raise SpecError(
            f"{' and '.join(fields)} is not possible",
            expected=f"heads × head_dim = {inner} as in {canonical.source(QUERY)}",
        )
    return both


def assumed_heads(canonical: Canonical, inner: int, dim: int, guesses: Guesses) -> tuple[int | None, int | None]:
    convention = canonical.blocks.convention
    if convention.output_is_optional and lacks_output(canonical) and inner == dim:
        return 1, None  # vit-pytorch only leaves out the output projection in this case
    if convention.head_dim is None or inner % convention.head_dim:
        return None, None
    why = f"dim_head {convention.head_dim} is the default of {convention.name}"
    return guesses.assume("heads", inner // convention.head_dim, why), None


def lacks_output(canonical: Canonical) -> bool:
    return not any(".attention.output." in name for name in canonical.tensors)
