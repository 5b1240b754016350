"""Measure how latency grows with the number of branches, and what depth costs with equal parameters.

    python -m benchmarks.scaling -o benchmarks/results/

There are two sweeps of the released architecture. The first has L = 1 … 32 branches of M = 2 layers. The second always
has L · M = 16 layers, from one branch of 16 layers to 16 branches of one. Our layouts run on both runtimes. Their peers
are PyTorch eager and the plain export on each runtime.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import click

from benchmarks.harness import machine, pages
from benchmarks.harness.contest import RULES, THREADS
from benchmarks.harness.subjects import PLAIN, released
from benchmarks.peers import LAYOUTS, PEERS, print_progress, rules_for, run_contests
from paraexport.timing.stability import StoppingRule

CONTESTANTS = (*(peer for peer in PEERS if peer.runner == "torch" or peer.graph == PLAIN), *LAYOUTS)
DEPTH, BRANCHES = 2, (1, 2, 4, 8, 16, 32)
LAYERS = 16
SWEEP_RULES = dataclasses.replace(RULES, rounds=5, stop=StoppingRule(at_most=10), burst_s=0.15)


def sizes(branches: tuple[int, ...], layers: int) -> list[tuple[int, int]]:
    """(L, M) of both sweeps, without repeats."""
    shapes = [(layers // depth, depth) for depth in range(1, layers + 1) if layers % depth == 0]
    return list(dict.fromkeys([*((count, DEPTH) for count in branches), *shapes]))


@click.command(help="Measure latency against the number of branches, and against depth with equal parameters.")
@click.option(
    "--branches", multiple=True, default=BRANCHES, show_default=True, help=f"L of the sweep with M = {DEPTH}."
)
@click.option("--layers", default=LAYERS, show_default=True, help="L · M of the sweep over depth.")
@click.option("--batch", "batches", multiple=True, default=(1,), show_default=True, help="Images in a call.")
@click.option(
    "--rounds", type=click.IntRange(1), help=f"Bursts of each contestant.  [default: {SWEEP_RULES.rounds_text}]"
)
@click.option("--threads", default=THREADS, show_default=True, help="Threads of each runtime.")
@click.option("--quick", is_flag=True, help="A few short bursts, to see that the script runs.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for CSV, JSON, page and picture."
)
def main(
    *,
    branches: tuple[int, ...],
    layers: int,
    batches: tuple[int, ...],
    rounds: int | None,
    threads: int,
    quick: bool,
    output: Path | None,
) -> None:
    rules = rules_for(SWEEP_RULES, rounds, quick=quick)
    started_s, here = time.perf_counter(), machine.describe()
    print_progress(here.line())
    specs = [released(count, depth, "cls") for count, depth in sizes(branches, layers)]
    rows = run_contests(specs, batches, rules, CONTESTANTS, threads=threads)
    print(pages.table(rows))
    if output is not None:
        from benchmarks.harness.pictures import draw_scaling

        model = f"released architecture, 65 tokens, D = 192, float32, {threads} threads"
        took_s = time.perf_counter() - started_s
        header = pages.Header(pages.command(), here, rules, threads, model, took_s)
        pages.write(output, "scaling", rows, header)
        draw_scaling(rows, header, output, DEPTH, layers)
        print_progress(f"wrote scaling.csv, .json, .md, .svg and .png to {output} in {took_s:.0f} s")


if __name__ == "__main__":
    main()
