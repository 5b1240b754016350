"""Tests whether ONNX Runtime's products of uint8 and int8 saturate on this CPU."""

from __future__ import annotations

import functools

from paraexport.targets import saturation

PRODUCT = (
    b'\x08\x04:b\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x01gZ\x15\n\x01a\x12\x10\n\x0e\x08\x02\x12\n\n\x03'
    b"\x12\x01m\n\x03\x12\x01kZ\x15\n\x01b\x12\x10\n\x0e\x08\x03\x12\n\n\x03\x12\x01k\n\x03\x12\x01nb\x15\n\x01y\x12"
    b"\x10\n\x0e\x08\x06\x12\n\n\x03\x12\x01m\n\x03\x12\x01nB\x04\n\x00\x10\n"
)
"""An ONNX file: y = MatMulInteger(a, b), uint8 [m, k] times int8 [k, n] -> int32 [m, n]. It is bytes, so that
no import of onnx is needed."""


@functools.cache
def saturates() -> bool:
    import onnxruntime

    session = onnxruntime.InferenceSession(PRODUCT, providers=["CPUExecutionProvider"])
    return saturation.saturates(lambda images, weight: session.run(None, {"a": images, "b": weight})[0])
