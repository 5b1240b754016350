"""Can `paraexport bench` be trusted? Compare it with another timing, load the machine, and bench equal bundles.

    python -m benchmarks.experiments.bench_itself

1. The percentiles of `bench` beside those of a program that uses onnxruntime and NumPy alone, before and after it.
2. `bench` on the machine as it is, and with one busy process for each CPU: it must say unstable only under load.
3. `bench` of the same bundle twice, several times: it should say equal.

Run it on a machine without other work.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

import paraexport
from benchmarks.harness.machine import describe
from paraexport.bench.bench import Settings, bench
from paraexport.bench.rows import Row
from paraexport.timing.percentiles import PERCENTS

DIGITS = Path(__file__).parents[2] / "models/digits.pt"
ALONE = """
import json, sys, time
import numpy as np
import onnxruntime
path, batch, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
images = np.random.default_rng(0).standard_normal((batch, 1, 32, 32)).astype(np.float32)
for _ in range(50):
    session.run(None, {"images": images})
times, end = [], time.perf_counter_ns() + seconds * 1e9
while time.perf_counter_ns() < end:
    started = time.perf_counter_ns()
    session.run(None, {"images": images})
    times.append((time.perf_counter_ns() - started) / 1e6)
print(json.dumps(np.percentile(times, [50, 90, 95, 99]).tolist()))
"""
BUSY = "while True: pass"


@click.command()
@click.option("--runs", default=10, show_default=True, help="Runs with two equal bundles.")
@click.option("--batch", default=8, show_default=True)
def main(runs: int, batch: int) -> None:
    click.echo(f"On {describe().line()}.\n")
    with tempfile.TemporaryDirectory() as temporary:
        bundle = paraexport.build(DIGITS, Path(temporary) / "digits.bundle").path
        settings = Settings(batches=(batch,))
        before = alone(bundle, batch)
        (row,) = bench([bundle], settings)
        after = alone(bundle, batch)
        click.echo(f"| batch {batch} | onnxruntime alone, before | bench | onnxruntime alone, after |\n|-|-|-|-|")
        for place, percent in enumerate(PERCENTS):
            own = row.percentiles_ms.get(percent, float("nan"))
            click.echo(f"| P{percent}, ms | {before[place]:.3f} | {own:.3f} | {after[place]:.3f} |")
        click.echo(f"\nas it is: {verdict(row)}")
        with load(os.cpu_count() or 1):
            (row,) = bench([bundle], settings)
        click.echo(f"under load: {verdict(row)}\n")
        equal = 0
        for _ in range(runs):
            _, second = bench([bundle, bundle], settings)
            click.echo(f"the same bundle twice: {second.verdict}, {second.ratio:.3f} times {second.note}")
            equal += second.verdict == "equal"
        click.echo(f"equal in {equal} of {runs} runs")


def alone(bundle: Path, batch: int) -> list[float]:
    """The percentiles of a program of its own, in ms."""
    command = [sys.executable, "-c", ALONE, str(bundle / "model.onnx"), str(batch), "3"]
    return list(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


def verdict(row: Row) -> str:
    return row.note or f"stable, P50 {row.percentiles_ms[50]:.3f} ms"


@contextlib.contextmanager
def load(processes: int) -> Iterator[None]:
    """Keep so many CPUs busy."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
