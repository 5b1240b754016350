"""In which order does ONNX Runtime cut images into patches faster: (p1 p2 c), as the released code does, or (c p1 p2)?

    python -m benchmarks.experiments.patches

(c p1 p2) is the order of the pixels in memory.
"""

from __future__ import annotations

import click
import numpy as np
import onnxruntime
from onnx import parser

from benchmarks.harness import machine
from paraexport.timing.calls import time_calls

ORDERS = {"(p1 p2 c)": [0, 2, 4, 3, 5, 1], "(c p1 p2)": [0, 2, 4, 1, 3, 5]}
CALLS, BATCH, THREADS = 60, 8, 2


def fastest_ms(order: list[int]) -> float:
    model = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[n,3,128,128] x, int64[6] cut, int64[3] flat)'
        f" => (float[n,64,768] y) {{ a = Reshape(x, cut) t = Transpose<perm={order}>(a) y = Reshape(t, flat) }}"
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).standard_normal((BATCH, 3, 128, 128), np.float32)
    feed = {"x": images, "cut": np.array([-1, 3, 8, 16, 8, 16]), "flat": np.array([-1, 64, 768])}
    return min(time_calls(lambda: session.run(None, feed), at_least=CALLS))


@click.command(help="Time two orders of cutting images into patches.")
def main() -> None:
    print(machine.describe().line())
    for name, order in ORDERS.items():
        print(f"{BATCH} images of 3x128x128 as {name}: {fastest_ms(order):.2f} ms, the fastest of {CALLS}")


if __name__ == "__main__":
    main()
