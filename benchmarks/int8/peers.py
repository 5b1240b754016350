"""Compare our int8 with other int8 tools: the accuracy that each one costs, and its latency.

    python -m benchmarks.int8.peers -o benchmarks/results/

The peers are OpenVINO with NNCF, ONNX Runtime's static and dynamic quantisation, and NVIDIA ModelOpt. Each reads the
plain export, and all get the same calibration images. Plain exports in float32 are shown for scale. Accuracy is
measured with the trained examples on their test images, and speed as in `benchmarks.peers`.

NNCF comes with `paraexport[bench]`. ModelOpt pins other versions of onnx and onnxruntime, so install it
(`nvidia-modelopt[onnx]`) in its own environment, and pass the path of its Python as `--modelopt`. It needs no GPU.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import click

from benchmarks.harness import machine, pages
from benchmarks.harness.contest import RULES, THREADS, Contestant
from benchmarks.harness.subjects import PLAIN, released
from benchmarks.int8 import pages as int8_pages
from benchmarks.int8.accuracy import CASES, measure
from benchmarks.int8.recipes import DYNAMIC, LAYOUTS, MODELOPT, NNCF, STATIC, TARGETS, ours, recipes
from benchmarks.peers import print_progress, rules_for, run_contests

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


@click.command(help="Compare accuracy and speed of our int8 with those of other tools.")
@click.option("--depth", "depths", multiple=True, default=(2, 1), show_default=True, help="M, layers in a branch.")
@click.option("--branches", default=16, show_default=True, help="L.")
@click.option("--batch", "batches", multiple=True, default=(1, 8), show_default=True, help="Images in a call.")
@click.option("--rounds", type=click.IntRange(1), help=f"Bursts of each contestant.  [default: {RULES.rounds_text}]")
@click.option("--threads", default=THREADS, show_default=True, help="Threads of each runtime.")
@click.option(
    "--modelopt", default=sys.executable, help="The Python of an environment with NVIDIA ModelOpt.  [default: this one]"
)
@click.option("--part", type=click.Choice(["accuracy", "speed"]), help="Run only this part, and write no files.")
@click.option("--quick", is_flag=True, help="One model and a few short bursts, to see that the script runs.")
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
    rules, graphs = rules_for(RULES, rounds, quick=quick), recipes(modelopt)
    started_s, here = time.perf_counter(), machine.describe()
    print_progress(here.line())
    accuracies, rows = [], []
    if part != "speed":
        with tempfile.TemporaryDirectory() as temporary:
            for case in CASES[:1] if quick else CASES:
                print_progress(f"accuracy of {case.name}")
                accuracies += measure(case, CONTESTANTS, graphs, Path(temporary) / case.name, threads)
        print(int8_pages.table(accuracies))
    if part != "accuracy":
        specs = [released(branches, depth, "cls") for depth in depths]
        rows = run_contests(specs, batches, rules, CONTESTANTS, threads=threads, recipes=graphs)
        print(pages.table(rows))
    if output is not None and part is None:
        model = f"int8; released architecture, L = {branches}, 65 tokens, D = 192, {threads} threads"
        took_s = time.perf_counter() - started_s
        header = pages.Header(pages.command(), here, rules, threads, model, took_s)
        int8_pages.write(output, rows, accuracies, header)
        print_progress(
            f"wrote int8.csv, int8-accuracy.csv, int8.json, .md, .svg and .png to {output} in {took_s:.0f} s"
        )


if __name__ == "__main__":
    main()
