"""The one place that asks a value for its shape.

A size is a number, the name of a free axis such as `batch`, or None for an axis that nothing is known about.
"""

from __future__ import annotations

import onnx_ir as ir

from paraexport.graph.refusal import Refused

Size = int | str | None
Dims = tuple[int | None, ...]
INVENTED = "unk__"
"""How names begin that shape inference of ONNX invents; they say nothing."""


def dims(value: ir.Value) -> Dims | None:
    """The sizes that are numbers, None for every other axis; None for a value of unknown rank."""
    if value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def named_sizes(value: ir.Value) -> list[Size] | None:
    """The sizes with the names of free axes; None for a value of unknown rank."""
    if value.shape is None:
        return None
    return [size if isinstance(size, int) else size.value for size in value.shape]


def require_dims(value: ir.Value) -> Dims:
    """As `dims`.

    Raises:
        Refused: the rank is not known.
    """
    if (sizes := dims(value)) is None:
        raise unknown(value)
    return sizes


def require_sizes(value: ir.Value) -> tuple[Size, ...]:
    """As `named_sizes`, without names that shape inference invented.

    Raises:
        Refused: the rank is not known.
    """
    if (sizes := named_sizes(value)) is None:
        raise unknown(value)
    return tuple(None if isinstance(size, str) and size.startswith(INVENTED) else size for size in sizes)


def require_fixed(value: ir.Value, free_batch: int) -> tuple[int, ...]:
    """The sizes as numbers; a free first axis counts as `free_batch`.

    Raises:
        Refused: another axis is free, or the value is empty.
    """
    first, *rest = dims(value) or (None,)
    fixed = [size for size in rest if size is not None]
    if not rest or len(fixed) < len(rest):
        raise unknown(value)
    if 0 in (first, *fixed):
        raise Refused(f"{value.name} is empty")
    return (free_batch if first is None else first, *fixed)


def are_equal(one: ir.Value, other: ir.Value) -> bool:
    """Whether two values certainly have the same shape."""
    sizes = named_sizes(one)
    return sizes is not None and None not in sizes and sizes == named_sizes(other)


def unknown(value: ir.Value) -> Refused:
    return Refused(f"the shape of {value.name} is not known")
