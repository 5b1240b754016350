"""The int8 ways that people have today beside ours: how much accuracy each costs, and how fast it is.

    python -m benchmarks.int8.peers -o benchmarks/results/

OpenVINO + NNCF, ONNX Runtime's static and dynamic quantisation and NVIDIA ModelOpt, each on the plain export, all with
the same calibration images; float32 for scale. Accuracy: the trained examples on their test images. Speed: the released
architecture with seeded random weights, as in `benchmarks.peers`. NNCF comes with `paraexport[bench]`. ModelOpt pins
other versions of onnx and onnxruntime: install `nvidia-modelopt[onnx]` in an environment of its own, and give the path
of its Python as `--modelopt`. It needs no GPU.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from pathlib import Path

import click

from benchmarks.harness import machine, pages
from benchmarks.harness.bursts import Timing
from benchmarks.harness.contest import Contestant
from benchmarks.harness.subjects import PLAIN
from benchmarks.int8 import pages as int8_pages
from benchmarks.int8.accuracy import CASES, measure
from benchmarks.int8.recipes import DYNAMIC, LAYOUTS, MODELOPT, NNCF, STATIC, TARGETS, ours, recipes
from benchmarks.peers import QUICK, contests, say
from benchmarks.rewrites import released

FLOAT32 = tuple(Contestant(f"float32, {name}", "scale", runner, PLAIN) for runner, name in TARGETS.items())
PEERS = (
    Contestant("NNCF, OpenVINO", "peer", "openvino-ir", NNCF),
    *(Contestant(f"ORT static, {name}", "peer", runner, STATIC) for runner, name in TARGETS.items()),
    Contestant("ORT dynamic, ONNX Runtime", "peer", "onnxruntime", DYNAMIC),
    *(Contestant(f"ModelOpt, {name}", "peer", runner, MODELOPT) for runner, name in TARGETS.items()),
)
OURS = tuple(
    Contestant(f"{layout}, {name}", "ours", runner, ours(layout, runner))
    for runner, name in TARGETS.items()
    for layout in LAYOUTS
)
CONTESTANTS = (*FLOAT32, *PEERS, *OURS)


@click.command(help="Accuracy and speed of int8: ours beside its peers.")
@click.option("--depth", "depths", multiple=True, default=(2, 1), show_default=True, help="Layers in a branch, M.")
@click.option("--branches", default=16, show_default=True, help="L.")
@click.option("--batch", "batches", multiple=True, default=(1, 8), show_default=True, help="Images in a call.")
@click.option("--rounds", type=click.IntRange(1), help=f"Bursts of each contestant.  [default: {Timing.rounds}]")
@click.option("--threads", default=Timing.threads, show_default=True)
@click.option("--modelopt", default=sys.executable, help="A Python that has NVIDIA ModelOpt.  [default: this one]")
@click.option("--part", type=click.Choice(["accuracy", "speed"]), help="Only one of the two; nothing is written.")
@click.option("--quick", is_flag=True, help="One model, few short bursts: to see that it runs, not to measure.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for CSV, JSON, page and picture."
)
def main(
    *,
    depths: tuple[int, ...],
    branches: int,
    batches: tuple[int, ...],
    rounds: int | None,
    threads: int,
    modelopt: str,
    part: str | None,
    quick: bool,
    output: Path | None,
) -> None:
    timing = QUICK if quick else Timing()
    timing = dataclasses.replace(timing, rounds=rounds or timing.rounds, threads=threads)
    started, here, ways = time.perf_counter(), machine.describe(), recipes(modelopt)
    say(here.line())
    found, rows = [], []
    if part != "speed":
        with tempfile.TemporaryDirectory() as temporary:
            for case in CASES[:1] if quick else CASES:
                say(f"accuracy of {case.name}")
                found += measure(case, CONTESTANTS, ways, Path(temporary) / case.name, threads)
        print(int8_pages.table(found))
    if part != "accuracy":
        specs = [released(branches, depth, "cls") for depth in depths]
        rows = contests(specs, batches, timing, CONTESTANTS, recipes=ways)
        print(pages.table(rows))
    if output is not None and part is None:
        model = f"int8; released architecture, L = {branches}, 65 tokens, D = 192, {threads} threads"
        header = pages.Header(pages.command(), here, timing, model, time.perf_counter() - started)
        int8_pages.write(output, rows, found, header)
        say(f"{output}: int8.csv, int8-accuracy.csv, int8.json, .md, .svg and .png after {header.took_s:.0f} s")


if __name__ == "__main__":
    main()
