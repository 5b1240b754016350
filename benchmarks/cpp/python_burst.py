"""The Python `Engine` as a contestant: answers each line on stdin with the median time of some calls, in µs."""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np

import paraexport


def main(bundle: str, threads: int, batch: int, calls: int) -> None:
    engine = paraexport.load(bundle, threads=threads)
    _, *shape = engine.manifest.inputs[0].shape
    images = np.full((batch, *map(int, shape)), 0.5, np.float32)
    for _ in sys.stdin:
        times_us = []
        for _ in range(calls):
            start_ns = time.perf_counter_ns()
            engine(images)
            times_us.append((time.perf_counter_ns() - start_ns) / 1e3)
        print(f"{statistics.median(times_us):.3f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
