"""How latency grows with the number of branches, and what depth costs at equal parameters.

    python -m benchmarks.scaling -o benchmarks/results/

Two sweeps of the released architecture: L = 1 … 32 branches of M = 2 layers; and L · M = 16 layers in all, from one
branch of 16 to 16 branches of one. Our layouts on both runtimes, beside PyTorch
eager and the plain export on each.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import click

from benchmarks.harness import machine, pages
from benchmarks.harness.bursts import Timing
from benchmarks.harness.subjects import PLAIN
from benchmarks.peers import LAYOUTS, PEERS, QUICK, contests, say
from benchmarks.rewrites import released

CONTESTANTS = (
    *(one for one in PEERS if one.runner == "torch" or one.graph == PLAIN),
    *LAYOUTS,
)
DEPTH, BRANCHES = 2, (1, 2, 4, 8, 16, 32)
LAYERS = 16
TIMING = Timing(rounds=5, burst_ms=150)


def sizes(branches: tuple[int, ...], layers: int) -> list[tuple[int, int]]:
    """(L, M) of both sweeps, each once."""
    shapes = [(layers // depth, depth) for depth in range(1, layers + 1) if layers % depth == 0]
    return list(dict.fromkeys([*((count, DEPTH) for count in branches), *shapes]))


@click.command(help="Time our layouts against the number of branches, and against depth at equal parameters.")
@click.option("--branches", multiple=True, default=BRANCHES, show_default=True, help=f"L, at M = {DEPTH}.")
@click.option("--layers", default=LAYERS, show_default=True, help="L · M of the sweep over depth.")
@click.option("--batch", "batches", multiple=True, default=(1,), show_default=True, help="Images in a call.")
@click.option("--rounds", type=click.IntRange(1), help=f"Bursts of each contestant.  [default: {TIMING.rounds}]")
@click.option("--threads", default=Timing.threads, show_default=True)
@click.option("--quick", is_flag=True, help="Few short bursts: to see that it runs, not to measure.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for CSV, JSON and picture."
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
    timing = QUICK if quick else TIMING
    timing = dataclasses.replace(timing, rounds=rounds or timing.rounds, threads=threads)
    started, here = time.perf_counter(), machine.describe()
    say(here.line())
    specs = [released(count, depth, "cls") for count, depth in sizes(branches, layers)]
    rows = contests(specs, batches, timing, CONTESTANTS)
    print(pages.table(rows))
    if output is not None:
        from benchmarks.harness.pictures import draw_scaling

        model = f"released architecture, 65 tokens, D = 192, float32, {threads} threads"
        header = pages.Header(pages.command(), here, timing, model, time.perf_counter() - started)
        pages.write(output, "scaling", rows, header)
        draw_scaling(rows, header, output, DEPTH, layers)
        say(f"{output}: scaling.csv, .json, .md, .svg and .png after {header.took_s:.0f} s")


if __name__ == "__main__":
    main()
