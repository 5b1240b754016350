"""Train small Para-Formers of L branches with M layers on noisy digits, and compare their accuracy.

    python -m benchmarks.paper.accuracy -o benchmarks/results/paper/

The serial network of N layers is one branch of N layers. With L · M = 8, four shapes have the same number of layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.paper import training
from benchmarks.paper.reporting import Header, grouped, mean_and_range, print_progress, report, seed_options, table

BRANCHES, DEPTHS = (1, 2, 4, 8), (1, 2, 4)
SERIAL_DEPTH = 8


@dataclass(frozen=True)
class Run:
    """One training. The fields are the columns of the CSV."""

    branches: int
    depth: int
    seed: int
    accuracy: float
    parameters: int
    train_s: float


def run(branches: int, depth: int, seed: int, task: training.Task, *, quick: bool = False) -> Run:
    recipe = training.noisy_recipe(seed, quick=quick)
    _, outcome = training.train(training.para_former(training.spec(branches, depth)), recipe, task)
    print_progress(f"L = {branches}, M = {depth}, seed {seed}: {outcome.accuracy:.1f} %, {outcome.train_s:.0f} s")
    return Run(branches, depth, seed, outcome.accuracy, outcome.parameters, outcome.train_s)


def describe(runs: Sequence[Run]) -> str:
    by_shape = {(group[0].branches, group[0].depth): group for group in grouped(runs, lambda r: (r.branches, r.depth))}
    depths = sorted({depth for _, depth in by_shape})
    branches = sorted({count for count, _ in by_shape})
    grid = table(
        ["accuracy, %", *(f"M = {depth}" for depth in depths)],
        [
            [
                f"L = {count}",
                *(
                    mean_and_range([r.accuracy for r in by_shape[count, depth]]) if (count, depth) in by_shape else ""
                    for depth in depths
                ),
            ]
            for count in branches
        ],
    )
    equal = [group for (count, depth), group in by_shape.items() if count * depth == SERIAL_DEPTH]
    shapes = table(
        [f"L × M = {SERIAL_DEPTH}", "accuracy, %", "parameters", "training, s"],
        [
            [
                f"{group[0].branches} × {group[0].depth}",
                mean_and_range([r.accuracy for r in group]),
                f"{group[0].parameters:,}",
                mean_and_range([r.train_s for r in group], ".0f"),
            ]
            for group in equal
        ],
    )
    return f"Mean over the seeds, smallest and largest in brackets.\n\n{grid}\n\n{shapes}"


def draw(runs: Sequence[Run], folder: Path) -> None:
    from benchmarks.paper.pictures import Panel, draw

    curves = {
        f"M = {depth}": {
            group[0].branches: [r.accuracy for r in group]
            for group in grouped((r for r in runs if r.depth == depth), lambda r: r.branches)
        }
        for depth in DEPTHS
    }
    draw(
        [Panel("Noisy digits", "L, parallel branches", "accuracy, %", curves)],
        folder / "accuracy.svg",
        f"mean and range of {len({r.seed for r in runs})} seeds",
    )


@click.command(help="Accuracy against the number of branches and their depth.")
@seed_options(training.SEEDS)
def main(*, seeds: tuple[int, ...], quick: bool, output: Path | None) -> None:
    task = training.noisy_digits()
    recipe = training.noisy_recipe(0, quick=quick)
    header = Header(
        "noisy digits, D = 32, 17 tokens, 1438 training images", f"{len(task.test_labels)} test images. "
        f"{training.settings(recipe)}",
    )  # fmt: skip
    shapes = [(count, depth) for depth in DEPTHS for count in BRANCHES]
    runs = [
        run(count, depth, seed, task, quick=quick)
        for seed in seeds
        for count, depth in [*shapes, (1, SERIAL_DEPTH)]
    ]  # fmt: skip
    report("accuracy", Run, runs, describe(runs), header, output=output, picture=True)
    if output is not None:
        draw(runs, output)


if __name__ == "__main__":
    main()
