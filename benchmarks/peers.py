"""Compare our layouts with the other ways to run such a model: latency, arithmetic and accuracy on this machine.

    python -m benchmarks.peers -o benchmarks/results/

The model is the released architecture in float32 with seeded random weights: D = 192, 3 heads of 64, MLP 768, images of
128 x 128, so 65 tokens. The peers run the same weights: PyTorch eager; torch.compile, also with frozen weights; plain
torch.onnx.export on ONNX Runtime and on OpenVINO; and that export after ONNX Runtime's transformer optimizer.
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
from benchmarks.harness.contest import QUICK, RULES, THREADS, Contestant, Row, compete
from benchmarks.harness.subjects import OPTIMIZED, OURS, PLAIN, PRODUCT, Recipe, prepare, prepare_product, released
from paraexport.model.spec import Spec
from paraexport.timing.contest import Rules

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


def print_progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def rules_for(rules: Rules, rounds: int | None, *, quick: bool) -> Rules:
    """The rules of a script with the options of its command line; `rounds` is an exact number of rounds."""
    rules = QUICK if quick else rules
    return rules if rounds is None else dataclasses.replace(rules, rounds=rounds, stop=None)


def run_contests(
    specs: Sequence[Spec],
    batches: Sequence[int],
    rules: Rules = RULES,
    contestants: Sequence[Contestant] = CONTESTANTS,
    *,
    threads: int = THREADS,
    recipes: Mapping[str, Recipe] | None = None,
) -> list[Row]:
    """One contest for each model and batch."""
    rows: list[Row] = []
    graphs = [contestant.graph for contestant in contestants if contestant.graph != PRODUCT]
    with tempfile.TemporaryDirectory() as temporary:
        product = prepare_product(PRODUCT_SIZE, Path(temporary) / PRODUCT)
        for spec in specs:
            title = f"L = {spec.branches}, M = {spec.depth}"
            print_progress(f"{title}: trace and export")
            subject = prepare(spec, Path(temporary) / f"{spec.branches}x{spec.depth}", batches, graphs, recipes)
            for batch in batches:
                print_progress(f"{title}, batch {batch}")
                contest_rows = compete(
                    contestants, subject, product, batch=batch, rules=rules, threads=threads, progress=print_progress
                )
                rows += [dataclasses.replace(row, branches=spec.branches, depth=spec.depth) for row in contest_rows]
    return rows


@click.command(help="Compare our layouts with other ways to run such a model.")
@click.option("--depth", "depths", multiple=True, default=(2, 1), show_default=True, help="M, layers in a branch.")
@click.option("--branches", default=16, show_default=True, help="L.")
@click.option("--batch", "batches", multiple=True, default=(1, 8), show_default=True, help="Images in a call.")
@click.option("--rounds", type=click.IntRange(1), help=f"Bursts of each contestant.  [default: {RULES.rounds_text}]")
@click.option("--threads", default=THREADS, show_default=True, help="Threads of each runtime.")
@click.option("--quick", is_flag=True, help="A few short bursts, to see that the script runs.")
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
    quick: bool,
    output: Path | None,
) -> None:
    rules = rules_for(RULES, rounds, quick=quick)
    started_s, here = time.perf_counter(), machine.describe()
    print_progress(here.line())
    rows = run_contests([released(branches, depth, "cls") for depth in depths], batches, rules, threads=threads)
    print(pages.table(rows))
    if output is not None:
        from benchmarks.harness.pictures import draw_peers

        model = f"released architecture, L = {branches}, 65 tokens, D = 192, float32, {threads} threads"
        took_s = time.perf_counter() - started_s
        header = pages.Header(pages.command(), here, rules, threads, model, took_s)
        pages.write(output, "peers", rows, header)
        draw_peers(rows, header, output)
        print_progress(f"wrote peers.csv, .json, .md, .svg and .png to {output} in {took_s:.0f} s")


if __name__ == "__main__":
    main()
