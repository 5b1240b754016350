"""Asks a value for its shape. No other module does.

A size is a number, the name of a free axis such as `batch`, or None if nothing is known about the axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from paraexport.graph.refusal import Refused

Size = int | str | None
Sizes = tuple[Size, ...]
Dims = tuple[int | None, ...]
INVENTED = "unk__"
"""ONNX's shape inference invents axis names with this prefix. They carry no information."""


def dims(value: ir.Value) -> Dims | None:
    """The sizes that are numbers, with None for every other axis. None if the rank is not known."""
    if value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def named_sizes(value: ir.Value) -> list[Size] | None:
    """The sizes, with the names of free axes. None if the rank is not known."""
    if value.shape is None:
        return None
    return [size if isinstance(size, int) else size.value for size in value.shape]


def require_dims(value: ir.Value) -> Dims:
    """The same as `dims`.

    Raises:
        Refused: the rank is not known.
    """
    if (sizes := dims(value)) is None:
        raise unknown_shape(value)
    return sizes


def require_sizes(value: ir.Value) -> Sizes:
    """The same as `named_sizes`, without the names that shape inference invents.

    Raises:
        Refused: the rank is not known.
    """
    if (sizes := named_sizes(value)) is None:
        raise unknown_shape(value)
    return tuple(None if isinstance(size, str) and size.startswith(INVENTED) else size for size in sizes)


def require_fixed(value: ir.Value, free_batch: int) -> tuple[int, ...]:
    """The sizes as numbers; a free first axis counts as `free_batch`.

    Raises:
        Refused: another axis is free, or the value is empty.
    """
    first, *rest = dims(value) or (None,)
    fixed = [size for size in rest if size is not None]
    if not rest or len(fixed) < len(rest):
        raise unknown_shape(value)
    if 0 in (first, *fixed):
        raise Refused(f"{value.name} is empty")
    return (free_batch if first is None else first, *fixed)


def require_numbers(sizes: Sequence[Size], what: str) -> tuple[int, ...]:
    """The sizes as numbers; `what` names the value in the refusal.

    Raises:
        Refused: a size is not a number, or is 0.
    """
    if unknown := [size for size in sizes if not isinstance(size, int)]:
        raise Refused(f"{what} has the free size {unknown[0] or '?'}; only the batch may be free")
    if 0 in sizes:
        raise Refused(f"{what} is empty")
    return tuple(size for size in sizes if isinstance(size, int))


def element_count(sizes: Sequence[Size]) -> int | None:
    """The product of the sizes, or None if one of them is not a number."""
    numbers = [size for size in sizes if isinstance(size, int)]
    return math.prod(numbers) if len(numbers) == len(sizes) else None


def is_known(size: int | ir.SymbolicDim) -> bool:
    """Whether an axis has a number or a name."""
    return isinstance(size, int) or size.value is not None


def have_equal_shapes(left: ir.Value, right: ir.Value) -> bool:
    """Whether two values certainly have the same shape."""
    sizes = named_sizes(left)
    return sizes is not None and None not in sizes and sizes == named_sizes(right)


def unknown_shape(value: ir.Value) -> Refused:
    return Refused(f"the shape of {value.name} is not known")
