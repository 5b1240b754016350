"""Our layouts beside the ways people run such a model today, on this machine: latency, arithmetic, accuracy.

    python -m benchmarks.peers -o benchmarks/results/

The released architecture (D = 192, 3 heads of 64, MLP 768, images of 128 x 128: 65 tokens) in float32, with seeded
random weights. The peers run the same weights: PyTorch eager; torch.compile, also with frozen weights; plain
torch.onnx.export on ONNX Runtime and OpenVINO; and that export after ONNX Runtime's transformer optimizer.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from benchmarks.harness import machine, pages
from benchmarks.harness.bursts import Timing
from benchmarks.harness.contest import Contestant, Row, compete
from benchmarks.harness.subjects import OPTIMIZED, OURS, PLAIN, PRODUCT, Recipe, prepare, prepare_product
from benchmarks.rewrites import released
from paraexport.model.spec import Spec

TARGETS = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
PEERS = (
    Contestant("PyTorch eager", "peer", "torch", OURS[0]),
    Contestant("torch.compile", "peer", "inductor", OURS[0]),
    Contestant("torch.compile, frozen", "peer", "inductor-frozen", OURS[0]),
    Contestant("plain export, ONNX Runtime", "peer", "onnxruntime", PLAIN),
    Contestant("ORT transformer optimizer", "peer", "onnxruntime", OPTIMIZED),
    Contestant("plain export, OpenVINO", "peer", "openvino", PLAIN),
)
LAYOUTS = tuple(
    Contestant(f"{graph}, {name}", "ours", runner, graph) for runner, name in TARGETS.items() for graph in OURS
)
PEAKS = tuple(Contestant(f"one large product, {name}", "peak", runner, PRODUCT) for runner, name in TARGETS.items())
CONTESTANTS = (*PEERS, *LAYOUTS, *PEAKS)
PRODUCT_SIZE = 2048
QUICK = Timing(rounds=3, burst_ms=60)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def contests(
    specs: Sequence[Spec],
    batches: Sequence[int],
    timing: Timing,
    contestants: Sequence[Contestant] = CONTESTANTS,
    product_size: int = PRODUCT_SIZE,
    *,
    recipes: Mapping[str, Recipe] | None = None,
) -> list[Row]:
    """One contest for each model and batch."""
    rows: list[Row] = []
    graphs = [one.graph for one in contestants if one.graph != PRODUCT]
    with tempfile.TemporaryDirectory() as temporary:
        product = prepare_product(product_size, Path(temporary) / PRODUCT)
        for spec in specs:
            title = f"L = {spec.branches}, M = {spec.depth}"
            say(f"{title}: tracing and exporting")
            subject = prepare(spec, Path(temporary) / f"{spec.branches}x{spec.depth}", batches, graphs, recipes)
            for batch in batches:
                say(f"{title}, batch {batch}")
                measured = compete(contestants, subject, product, batch=batch, timing=timing, say=say)
                rows += [dataclasses.replace(row, branches=spec.branches, depth=spec.depth) for row in measured]
    return rows


@click.command(help="Time our layouts beside their peers.")
@click.option("--depth", "depths", multiple=True, default=(2, 1), show_default=True, help="Layers in a branch, M.")
@click.option("--branches", default=16, show_default=True, help="L.")
@click.option("--batch", "batches", multiple=True, default=(1, 8), show_default=True, help="Images in a call.")
@click.option("--rounds", type=click.IntRange(1), help=f"Bursts of each contestant.  [default: {Timing.rounds}]")
@click.option("--threads", default=Timing.threads, show_default=True)
@click.option("--quick", is_flag=True, help="Few short bursts: to see that it runs, not to measure.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for CSV, JSON and picture."
)
def main(
    *,
    depths: tuple[int, ...],
    branches: int,
    batches: tuple[int, ...],
    rounds: int | None,
    threads: int,
    quick: bool,
    output: Path | None,
) -> None:
    timing = QUICK if quick else Timing()
    timing = dataclasses.replace(timing, rounds=rounds or timing.rounds, threads=threads)
    started, here = time.perf_counter(), machine.describe()
    say(here.line())
    rows = contests([released(branches, depth, "cls") for depth in depths], batches, timing)
    print(pages.table(rows))
    if output is not None:
        from benchmarks.harness.pictures import draw_peers

        model = f"released architecture, L = {branches}, 65 tokens, D = 192, float32, {threads} threads"
        header = pages.Header(pages.command(), here, timing, model, time.perf_counter() - started)
        pages.write(output, "peers", rows, header)
        draw_peers(rows, header, output)
        say(f"{output}: peers.csv, .json, .md, .svg and .png after {header.took_s:.0f} s")


if __name__ == "__main__":
    main()
