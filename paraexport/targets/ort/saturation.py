"""Whether ONNX Runtime's products of uint8 and int8 saturate on this CPU: its own kernels are asked, and not the CPU.

Without VNNI they add pairs of products in 16 bits, where 2 · 255 · 127 does not fit. Runtimes and kernels change, and
so does what a CPU calls its instructions; a product whose answer is known tells at once.
"""

from __future__ import annotations

import functools

import numpy as np

PRODUCT = (
    b'\x08\x04:b\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x01gZ\x15\n\x01a\x12\x10\n\x0e\x08\x02\x12\n\n\x03'
    b"\x12\x01m\n\x03\x12\x01kZ\x15\n\x01b\x12\x10\n\x0e\x08\x03\x12\n\n\x03\x12\x01k\n\x03\x12\x01nb\x15\n\x01y\x12"
    b"\x10\n\x0e\x08\x06\x12\n\n\x03\x12\x01m\n\x03\x12\x01nB\x04\n\x00\x10\n"
)
"""An ONNX file: y = MatMulInteger(a, b), uint8 [m, k] times int8 [k, n] in int32."""
ROWS = (1, 16)
"""One row has a kernel of its own."""
INNER, COLUMNS = 64, 32


@functools.cache
def saturates() -> bool:
    """A product of the largest numbers comes out wrong here."""
    import onnxruntime

    session = onnxruntime.InferenceSession(PRODUCT, providers=["CPUExecutionProvider"])
    weight = np.full((INNER, COLUMNS), 127, np.int8)
    weight[:, ::2] = -127
    return any(
        not np.array_equal(session.run(None, {"a": image, "b": weight})[0], image.astype(np.int64) @ weight)
        for image in (np.full((rows, INNER), 255, np.uint8) for rows in ROWS)
    )
