"""What numbers fp16 and bf16 hold, and whether a value stays within them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

Kind = Literal["fp16", "bf16"]
HEADROOM = 2.0
"""How much larger a value may become than on the calibration images: other images reach further than those seen, and a
product adds up interim results beyond its last one. A factor of two costs one of the 30 powers of two of fp16."""


@dataclass(frozen=True)
class Span:
    """The type, its largest finite number, and the smallest one with all of its digits (IEEE 754-2019, table 3.5)."""

    dtype: ir.DataType
    largest: float
    smallest_normal: float


SPANS: Mapping[Kind, Span] = {
    "fp16": Span(ir.DataType.FLOAT16, 65504.0, 2.0**-14),
    "bf16": Span(ir.DataType.BFLOAT16, (2 - 2.0**-7) * 2.0**127, 2.0**-126),
}


def misfit(largest: float, kind: Kind) -> str | None:
    """Why a value with this max |value| does not fit the type, or None; a value that is always zero does."""
    span = SPANS[kind]
    if not largest * HEADROOM <= span.largest:  # NaN too
        return f"up to {largest:.6g}, times {HEADROOM:g} passes {span.largest:.6g}, the largest of {kind}"
    if 0 < largest < span.smallest_normal:
        return f"at most {largest:.3g}, below {span.smallest_normal:.3g}, from where on {kind} loses digits"
    return None
