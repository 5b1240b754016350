"""Compare attention, which depends on the input, with a fixed mixing of the tokens: accuracy, memory, latency.

    python -m benchmarks.paper.mixing -o benchmarks/results/paper/

The fixed mixing keeps values and output of the attention, and replaces query, key and softmax with one learnt [N, N]
matrix for each head. A third kind takes the mean of all tokens and learns nothing there. Latency and memory are those
of the released width, D = 192, in ONNX Runtime.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from torch import Tensor, nn

from benchmarks.harness.subjects import released
from benchmarks.paper import timing, training
from benchmarks.paper.reporting import Header, grouped, mean_and_range, print_progress, report, seed_options, table
from paraexport.model.reference import Branch, ParaFormer
from paraexport.model.spec import Spec

BRANCHES, DEPTH = 4, 2
SIDES = (128, 256, 384)
"""Of the images, for latency and memory: 65, 257 and 577 tokens."""
MEMORY_BATCH = 8
WIDE_SHIFT = 8
"""Pixels, a quarter of the image: then a digit can be anywhere, and a fixed mixing cannot know where."""


class FixedMixing(nn.Module):
    """One [N, N] matrix for each head mixes the values, the same for every image: [B, N, D] -> [B, N, D]."""

    def __init__(self, spec: Spec, *, learnt: bool = True) -> None:
        super().__init__()
        inner = spec.heads * spec.head_dim
        self.heads = spec.heads
        self.value = nn.Linear(spec.dim, inner, bias=spec.qkv_bias)
        self.output = nn.Linear(inner, spec.dim)
        mean = torch.full((spec.heads, spec.tokens, spec.tokens), 1 / spec.tokens)
        self.weights = nn.Parameter(mean + 0.02 * torch.randn(mean.shape) if learnt else mean, requires_grad=learnt)

    def forward(self, tokens: Tensor) -> Tensor:
        value = self.value(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return self.output((self.weights @ value).transpose(1, 2).flatten(2))


def with_attention(spec: Spec) -> ParaFormer:
    return ParaFormer(spec)


def with_fixed_mixing(spec: Spec, *, learnt: bool = True) -> ParaFormer:
    model = ParaFormer(spec)
    for branch in model.branches:
        assert isinstance(branch, Branch)
        for layer in branch.layers:
            layer.attention = FixedMixing(spec, learnt=learnt)
    return model


KINDS: Mapping[str, Callable[[Spec], ParaFormer]] = {
    "attention": with_attention,
    "fixed mixing": with_fixed_mixing,
    "mean of the tokens": lambda spec: with_fixed_mixing(spec, learnt=False),
}


@dataclass(frozen=True)
class Run:
    """One training. The fields are the columns of the CSV."""

    kind: str
    max_shift: int
    seed: int
    accuracy: float
    parameters: int
    train_s: float


@dataclass(frozen=True)
class Cost:
    """What a call costs at the released width."""

    kind: str
    tokens: int
    parameters: int
    gflop: float | None
    latency: str
    call_bytes: int


def run(kind: str, max_shift: int, seed: int, task: training.Task, *, quick: bool) -> Run:
    recipe = dataclasses.replace(training.noisy_recipe(seed, quick=quick), max_shift=max_shift)
    spec = training.spec(BRANCHES, DEPTH)
    _, outcome = training.train(lambda: KINDS[kind](spec), recipe, task)
    print_progress(f"{kind}, shifts of {max_shift}, seed {seed}: {outcome.accuracy:.1f} %, {outcome.train_s:.0f} s")
    return Run(kind, max_shift, seed, outcome.accuracy, outcome.parameters, outcome.train_s)


def costs(sides: Sequence[int], *, quick: bool) -> list[Cost]:
    measured = []
    for side in sides:
        spec = dataclasses.replace(released(BRANCHES, DEPTH, "cls"), image_size=(side, side))
        torch.manual_seed(0)
        models = {kind: KINDS[kind](spec) for kind in ("attention", "fixed mixing")}
        with tempfile.TemporaryDirectory() as temporary:
            subjects = timing.prepare(models, (1, MEMORY_BATCH), Path(temporary))
            rows = timing.compete(subjects, 1, timing.rules(quick=quick))
            measured += [
                Cost(
                    kind, spec.tokens, training.count_parameters(models[kind]), row.gflop, timing.latency_text(row),
                    timing.call_bytes(subjects[kind], MEMORY_BATCH),
                )
                for kind, row in rows.items()
            ]  # fmt: skip
    return measured


def describe(runs: Sequence[Run], measured: Sequence[Cost]) -> str:
    by_kind = grouped(runs, lambda r: r.kind)
    shifts = [group[0].max_shift for group in grouped(runs, lambda r: r.max_shift)]
    accuracies = table(
        ["tokens mixed by", *(f"accuracy, %, shifts of {shift}" for shift in shifts), "parameters", "training, s"],
        [
            [
                group[0].kind,
                *(mean_and_range([r.accuracy for r in group if r.max_shift == shift]) for shift in shifts),
                f"{group[0].parameters:,}",
                mean_and_range([r.train_s for r in group], ".0f"),
            ]
            for group in by_kind
        ],
    )
    headings = [
        "tokens",
        "mixed by",
        "parameters",
        "GFLOP",
        "batch 1, ms",
        f"memory of a call, batch {MEMORY_BATCH}, MB",
    ]
    lines = [
        [str(c.tokens), c.kind, f"{c.parameters:,}", f"{c.gflop:.2f}", c.latency, f"{c.call_bytes / 1e6:.0f}"]
        for c in measured
    ]
    return (
        f"Noisy digits, L = {BRANCHES}, M = {DEPTH}: mean over the seeds, smallest and largest in brackets. Shifts are "
        f"the largest, in pixels, of training and test images.\n\n{accuracies}\n\n"
        f"Released width, L = {BRANCHES}, M = {DEPTH}, plain export in ONNX Runtime with one thread. In brackets: "
        f"quartiles of the bursts. Memory is the peak of a call beyond the opened session.\n\n{table(headings, lines)}"
    )


@click.command(help="Attention against a fixed mixing of tokens: accuracy, memory and latency.")
@seed_options(training.SEEDS)
def main(*, seeds: tuple[int, ...], quick: bool, output: Path | None) -> None:
    header = Header("attention or fixed mixing", training.settings(training.noisy_recipe(0, quick=quick)))
    tasks = {1: training.noisy_digits(), WIDE_SHIFT: training.noisy_digits(shift=WIDE_SHIFT)}
    runs = [
        run(kind, shift, seed, task, quick=quick) for seed in seeds for shift, task in tasks.items() for kind in KINDS
    ]
    measured = costs(SIDES[:1] if quick else SIDES, quick=quick)
    report("mixing", Run, runs, describe(runs, measured), header, output=output, picture=False)


if __name__ == "__main__":
    main()
