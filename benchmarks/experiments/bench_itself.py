"""Can `paraexport bench` be trusted? Compare it with another timing, load the machine, and bench equal bundles.

    python -m benchmarks.experiments.bench_itself

1. The percentiles of `bench` beside those of a program that uses onnxruntime and NumPy alone, in turns. The program
   rests between its windows as `bench` does.
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
    time.sleep(0.3)  # as long as the other contestant and the rests take
    burst_end = time.perf_counter_ns() + 2e8
    while time.perf_counter_ns() < burst_end:
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
        own, others, rows = [], [], []
        for _ in range(3):
            others.append(alone(bundle, batch))
            rows = bench([bundle, bundle], settings)
            own.append([rows[0].percentiles_ms.get(percent, float("nan")) for percent in PERCENTS])
        others.append(alone(bundle, batch))
        click.echo(
            f"| batch {batch} | bench, lowest to highest of {len(own)} | onnxruntime alone, of {len(others)} |\n|-|-|-|"
        )
        for place, percent in enumerate(PERCENTS):
            click.echo(f"| P{percent}, ms | {spread(own, place)} | {spread(others, place)} |")
        click.echo(f"\nas it is: {verdict(rows[0])}")
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
    command = [sys.executable, "-c", ALONE, str(bundle / "model.onnx"), str(batch), "7"]
    return list(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


def spread(runs: list[list[float]], place: int) -> str:
    values = [run[place] for run in runs]
    return f"{min(values):.3f} to {max(values):.3f}"


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
