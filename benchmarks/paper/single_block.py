"""Compare one branch of one layer with PyTorch's standard Transformer block, of the same weights.

    python -m benchmarks.paper.single_block -o benchmarks/results/paper/

First the logits in float64, for each convention of the skip: `input` must equal `torch.nn.TransformerEncoderLayer` with
`norm_first=True`, and `post` with `norm_first=False`. `normalized`, which the code released with the paper uses, has no
counterpart in PyTorch. Then both blocks are trained from the same initial weights, and their accuracy is compared.
"""

from __future__ import annotations

import copy
import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from torch import nn

from benchmarks.paper import training
from benchmarks.paper.reporting import Header, grouped, mean_and_range, print_progress, report, seed_options, table
from paraexport.model.reference import Branch, Layer, ParaFormer
from paraexport.model.spec import Residual, Spec

SEEDS = (0, 1, 2, 3, 4)
RESIDUALS: tuple[Residual, ...] = typing.get_args(Residual)
IMAGES = 64
"""For the comparison of logits."""


@dataclass(frozen=True)
class Run:
    """One pair of trainings. The fields are the columns of the CSV."""

    residual: str
    seed: int
    norm_first: bool
    difference: float
    """Before training: max |Δ logit| / max |logit| in float64."""
    accuracy: float
    torch_accuracy: float


def single_block_spec(residual: Residual) -> Spec:
    """L = M = 1. PyTorch's block has biases everywhere."""
    return dataclasses.replace(training.spec(1, 1, residual=residual), qkv_bias=True)


def standard_block(layer: Layer, spec: Spec) -> nn.TransformerEncoderLayer:
    """PyTorch's block with copies of the weights of `layer`. Any skip but `post` becomes `norm_first`."""
    block = nn.TransformerEncoderLayer(
        spec.dim, spec.heads, spec.mlp_dim, dropout=0.0, activation="gelu", layer_norm_eps=spec.eps, batch_first=True,
        norm_first=spec.residual != "post",
    )  # fmt: skip
    attention, feed_forward = layer.attention, layer.feed_forward
    projections = (attention.query, attention.key, attention.value)
    tensors = {
        "self_attn.in_proj_weight": torch.cat([projection.weight for projection in projections]),
        "self_attn.in_proj_bias": torch.cat([projection.bias for projection in projections]),
    }
    modules = {
        "self_attn.out_proj.": attention.output,
        "linear1.": feed_forward.fc1,
        "linear2.": feed_forward.fc2,
        "norm1.": layer.attention_norm,
        "norm2.": layer.feed_forward_norm,
    }
    for prefix, module in modules.items():
        tensors |= module.state_dict(prefix=prefix)
    block.load_state_dict(tensors)
    return block


def with_standard_block(model: ParaFormer) -> ParaFormer:
    """A copy of a model with L = M = 1 that has PyTorch's block in place of its layer."""
    clone = copy.deepcopy(model)
    branch = clone.branches[0]
    assert isinstance(branch, Branch)
    layer = branch.layers[0]
    assert isinstance(layer, Layer)
    clone.branches[0] = standard_block(layer, clone.spec)
    return clone


@torch.no_grad()
def difference(model: ParaFormer, other: nn.Module, seed: int) -> float:
    """max |Δ logit| / max |logit| in float64, on random images."""
    stream = torch.Generator().manual_seed(seed)
    images = torch.randn(IMAGES, model.spec.channels, *model.spec.image_size, generator=stream, dtype=torch.float64)
    expected = copy.deepcopy(model).double().eval()(images)
    # In training mode PyTorch's block runs its plain code; without dropout that is the same function.
    answered = copy.deepcopy(other).double().train()(images)
    return float((answered - expected).abs().max() / expected.abs().max())


def run(residual: Residual, seed: int, task: training.Task, *, quick: bool) -> Run:
    spec = single_block_spec(residual)
    recipe = training.noisy_recipe(seed, quick=quick)
    torch.manual_seed(seed)
    model = ParaFormer(spec)
    standard = with_standard_block(model)
    apart = difference(model, standard, seed)
    _, ours = training.train(lambda: model, recipe, task)
    _, theirs = training.train(lambda: standard, recipe, task)
    print_progress(
        f"{residual}, seed {seed}: {apart:.1e}; {ours.accuracy:.2f} %, {theirs.accuracy:.2f} % with PyTorch's block"
    )
    return Run(residual, seed, residual != "post", apart, ours.accuracy, theirs.accuracy)


def describe(runs: Sequence[Run]) -> str:
    lines = [
        [
            group[0].residual,
            str(group[0].norm_first),
            f"{max(r.difference for r in group):.1e}",
            mean_and_range([r.accuracy for r in group], ".2f"),
            mean_and_range([r.torch_accuracy for r in group], ".2f"),
            f"{max(abs(r.accuracy - r.torch_accuracy) for r in group):.2f}",
        ]
        for group in grouped(runs, lambda r: r.residual)
    ]
    headings = [
        "residual", "norm_first", "largest difference of logits", "accuracy, %", "with PyTorch's block, %",
        "largest difference",
    ]  # fmt: skip
    return (
        "The difference of logits is max |Δ| / max |logit| in float64 before training. Accuracy is the mean over the "
        f"seeds, smallest and largest in brackets.\n\n{table(headings, lines)}"
    )


@click.command(help="One branch of one layer against a standard Transformer block.")
@seed_options(SEEDS)
def main(*, seeds: tuple[int, ...], quick: bool, output: Path | None) -> None:
    task = training.noisy_digits()
    settings = training.settings(training.noisy_recipe(0, quick=quick))
    header = Header("L = M = 1 against torch.nn.TransformerEncoderLayer", f"Noisy digits. {settings}")
    runs = [run(residual, seed, task, quick=quick) for residual in RESIDUALS for seed in seeds]
    report("single_block", Run, runs, describe(runs), header, output=output, picture=False)


if __name__ == "__main__":
    main()
