"""Defines which numbers fp16 and bf16 can hold, and checks whether a value fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

HalfType = Literal["fp16", "bf16"]
HEADROOM = 2.0
"""How much larger a value may become than it was on the calibration images.

Other images may reach further, and a product may pass its final value while it adds up. A factor of two costs one of
the 30 powers of two of fp16."""


@dataclass(frozen=True)
class HalfFormat:
    """A data type, its largest finite number, and its smallest number with all digits (IEEE 754-2019, table 3.5)."""

    dtype: ir.DataType
    largest: float
    smallest_normal: float


HALF_FORMATS: Mapping[HalfType, HalfFormat] = {
    "fp16": HalfFormat(ir.DataType.FLOAT16, 65504.0, 2.0**-14),
    "bf16": HalfFormat(ir.DataType.BFLOAT16, (2 - 2.0**-7) * 2.0**127, 2.0**-126),
}


def misfit(largest: float, half_type: HalfType) -> str | None:
    """Why a value with this max |value| does not fit the type, or None if it fits. A value that is always zero fits."""
    half_format = HALF_FORMATS[half_type]
    if not largest * HEADROOM <= half_format.largest:  # NaN too
        return f"up to {largest:.6g}, times {HEADROOM:g} passes {half_format.largest:.6g}, the largest of {half_type}"
    if 0 < largest < half_format.smallest_normal:
        return f"at most {largest:.3g}, below {half_format.smallest_normal:.3g}, where {half_type} loses digits"
    return None
