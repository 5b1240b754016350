"""Train Para-Formers whose branches share weights, and compare accuracy, size and time.

    python -m benchmarks.paper.sharing -o benchmarks/results/paper/

If all branches were the same, the sum would be L times one branch, and the last norm would remove the factor. So a
shared branch reads its own scale and offset of the tokens: 2 · D numbers for each branch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from torch import Tensor, nn

from benchmarks.paper import timing, training
from benchmarks.paper.reporting import Header, grouped, mean_and_range, print_progress, report, seed_options, table
from paraexport.model.reference import Branch, ParaFormer
from paraexport.model.spec import Spec

BRANCHES, DEPTH = 8, 1
BATCH = 8
"""Of the latencies."""
SPREAD = 0.5
"""Standard deviation of the initial scales, around 1, and offsets. Equal branches would never part."""


class OwnInput(nn.Module):
    """A branch that shares its weights, and has its own scale and offset of the tokens: [B, N, D] -> [B, N, D]."""

    def __init__(self, branch: nn.Module, dim: int) -> None:
        super().__init__()
        self.branch = branch
        self.scale = nn.Parameter(1 + SPREAD * torch.randn(dim))
        self.offset = nn.Parameter(SPREAD * torch.randn(dim))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.branch(tokens * self.scale + self.offset)


def own_weights(spec: Spec) -> ParaFormer:
    return ParaFormer(spec)


def own_weights_and_inputs(spec: Spec) -> ParaFormer:
    model = ParaFormer(spec)
    model.branches = nn.ModuleList(OwnInput(branch, spec.dim) for branch in model.branches)
    return model


def share(spec: Spec, part: str) -> ParaFormer:
    """A model whose branches all have one part of the layers of the first branch. Their norms stay their own."""
    model = ParaFormer(spec)
    first = model.branches[0]
    assert isinstance(first, Branch)
    for branch in model.branches:
        assert isinstance(branch, Branch)
        for layer, source in zip(branch.layers, first.layers, strict=True):
            setattr(layer, part, getattr(source, part))
    return model


def share_everything(spec: Spec) -> ParaFormer:
    model = ParaFormer(spec)
    model.branches = nn.ModuleList(OwnInput(model.branches[0], spec.dim) for _ in range(spec.branches))
    return model


def one_branch(spec: Spec) -> ParaFormer:
    return ParaFormer(training.spec(1, spec.depth))


VARIANTS: Mapping[str, Callable[[Spec], ParaFormer]] = {
    "own weights": own_weights,
    "own weights, own inputs": own_weights_and_inputs,
    "shared attention": lambda spec: share(spec, "attention"),
    "shared feed-forward": lambda spec: share(spec, "feed_forward"),
    "all shared, own inputs": share_everything,
    "one branch": one_branch,
}


@dataclass(frozen=True)
class Run:
    """One training. The fields are the columns of the CSV."""

    variant: str
    seed: int
    accuracy: float
    parameters: int
    train_s: float


@dataclass(frozen=True)
class Cost:
    latency: str
    file_bytes: int


def measure_costs(models: Mapping[str, ParaFormer], *, quick: bool) -> dict[str, Cost]:
    """Of trained models: at first the norms of all branches are equal, and a runtime computes equal things once."""
    with tempfile.TemporaryDirectory() as temporary:
        subjects = timing.prepare(models, [BATCH], Path(temporary))
        rows = timing.compete(subjects, BATCH, timing.rules(quick=quick))
        return {name: Cost(timing.latency_text(row), timing.file_bytes(subjects[name])) for name, row in rows.items()}


def run(variant: str, seed: int, task: training.Task, *, quick: bool) -> tuple[ParaFormer, Run]:
    recipe = training.noisy_recipe(seed, quick=quick)
    spec = training.spec(BRANCHES, DEPTH)
    model, outcome = training.train(lambda: VARIANTS[variant](spec), recipe, task)
    print_progress(f"{variant}, seed {seed}: {outcome.accuracy:.1f} %, {outcome.train_s:.0f} s")
    return model, Run(variant, seed, outcome.accuracy, outcome.parameters, outcome.train_s)


def describe(runs: Sequence[Run], costs: Mapping[str, Cost]) -> str:
    lines = [
        [
            group[0].variant,
            mean_and_range([r.accuracy for r in group]),
            f"{group[0].parameters:,}",
            mean_and_range([r.train_s for r in group], ".0f"),
            costs[group[0].variant].latency,
            f"{costs[group[0].variant].file_bytes / 1e3:.0f}",
        ]
        for group in grouped(runs, lambda r: r.variant)
    ]
    headings = ["branches", "accuracy, %", "parameters", "training, s", f"batch {BATCH}, ms", "ONNX file, kB"]
    return (
        f"L = {BRANCHES}, M = {DEPTH}. Mean over the seeds, smallest and largest in brackets. Latency of the plain "
        f"export in ONNX Runtime with one thread, with the quartiles of its bursts.\n\n{table(headings, lines)}"
    )


@click.command(help="Branches that share weights: accuracy, size and time.")
@seed_options(training.SEEDS)
def main(*, seeds: tuple[int, ...], quick: bool, output: Path | None) -> None:
    task = training.noisy_digits()
    header = Header(
        "branches that share weights, noisy digits", training.settings(training.noisy_recipe(0, quick=quick))
    )
    trained = [run(variant, seed, task, quick=quick) for seed in seeds for variant in VARIANTS]
    runs = [outcome for _, outcome in trained]
    costs = measure_costs({outcome.variant: model for model, outcome in trained}, quick=quick)
    report("sharing", Run, runs, describe(runs, costs), header, output=output, picture=False)


if __name__ == "__main__":
    main()
