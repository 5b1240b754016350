"""Pre-train on generated digits and fine-tune on few real ones, against training from scratch on the same real ones.

    python -m benchmarks.paper.pretraining -o benchmarks/results/paper/

The generated digits are drawn in fonts (`rendered.py`). The pre-trained model keeps its head, since the classes are the
same. Both ways take the same number of steps on the real images. The seed draws the real images, too.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.paper import training
from benchmarks.paper.rendered import FONTS, rendered_digits
from benchmarks.paper.reporting import Header, grouped, mean_and_range, print_progress, report, seed_options, table
from models.train import Recipe
from paraexport.model.reference import ParaFormer

BRANCHES, DEPTH = 4, 2
GENERATED = 20_000
REAL = (50, 100, 300, 1000)
STEPS, QUICK_STEPS = 400, 20
"""On the real images, with and without pre-training."""
GENERATED_SEED = 1000
SCRATCH, PRETRAINED, UNTUNED = "from scratch", "pre-trained, fine-tuned", "pre-trained only"


@dataclass(frozen=True)
class Run:
    """One model. The fields are the columns of the CSV."""

    way: str
    real_images: int
    seed: int
    accuracy: float
    train_s: float


def pretraining_recipe(seed: int, *, quick: bool) -> Recipe:
    recipe = dataclasses.replace(training.noisy_recipe(seed, quick=quick), noise_sigma=0.0)
    return recipe if quick else dataclasses.replace(recipe, epochs=6, warmup_epochs=1)


def real_recipe(real_images: int, seed: int, *, fine_tune: bool, quick: bool) -> Recipe:
    """About `STEPS` steps, whatever the number of images; a pre-trained model takes smaller ones."""
    batch_size = min(64, real_images)
    batches = -(-real_images // batch_size)
    epochs = max(training.QUICK_EPOCHS, round((QUICK_STEPS if quick else STEPS) / batches))
    return dataclasses.replace(
        training.noisy_recipe(seed),
        epochs=epochs,
        warmup_epochs=max(1, epochs // 10),
        batch_size=batch_size,
        learning_rate=1e-3 if fine_tune else 3e-3,
        noise_sigma=0.0,
    )


def runs_of_seed(
    seed: int, real: Sequence[int], generated: training.Task, task: training.Task, *, quick: bool
) -> list[Run]:
    build = training.para_former(training.spec(BRANCHES, DEPTH))
    pretrained, outcome = training.train(build, pretraining_recipe(seed, quick=quick), generated)
    print_progress(f"seed {seed}: pre-trained only, {outcome.accuracy:.1f} %, {outcome.train_s:.0f} s")
    runs = [Run(UNTUNED, 0, seed, outcome.accuracy, outcome.train_s)]

    def copy_pretrained() -> ParaFormer:
        return copy.deepcopy(pretrained)

    for count in real:
        few = task.some(count, seed)
        for way, start in ((SCRATCH, build), (PRETRAINED, copy_pretrained)):
            recipe = real_recipe(count, seed, fine_tune=way == PRETRAINED, quick=quick)
            _, outcome = training.train(start, recipe, few)
            print_progress(f"seed {seed}, {count} images, {way}: {outcome.accuracy:.1f} %, {outcome.train_s:.0f} s")
            runs.append(Run(way, count, seed, outcome.accuracy, outcome.train_s))
    return runs


def describe(runs: Sequence[Run]) -> str:
    lines = []
    for group in grouped(runs, lambda r: r.real_images):
        ways = {way: {r.seed: r.accuracy for r in group if r.way == way} for way in (UNTUNED, SCRATCH, PRETRAINED)}
        gains = [ways[PRETRAINED][seed] - accuracy for seed, accuracy in ways[SCRATCH].items()]
        tuned = ways[PRETRAINED] or ways[UNTUNED]
        lines.append(
            [
                str(group[0].real_images),
                mean_and_range([*ways[SCRATCH].values()]) if gains else "",
                mean_and_range([*tuned.values()]),
                mean_and_range(gains, "+.1f") if gains else "",
            ]
        )
    headings = ["real images", "from scratch, %", "pre-trained, %", "gain, points"]
    return f"Mean over the seeds, smallest and largest in brackets.\n\n{table(headings, lines)}"


def draw(runs: Sequence[Run], folder: Path) -> None:
    from benchmarks.paper.pictures import Panel, draw

    curves = {
        way: {
            group[0].real_images: [r.accuracy for r in group]
            for group in grouped((r for r in runs if r.way == way), lambda r: r.real_images)
        }
        for way in (SCRATCH, PRETRAINED)
    }
    note = f"mean and range of {len({r.seed for r in runs})} seeds"
    panel = Panel(f"{GENERATED:,} generated digits first", "real images", "accuracy, %", curves)
    draw([panel], folder / "pretraining.svg", note)


@click.command(help="Pre-training on generated digits, then few real ones.")
@seed_options(training.SEEDS)
@click.option("--real", multiple=True, default=REAL, show_default=True, help="Real images to train on.")
@click.option("--generated", default=GENERATED, show_default=True, help="Generated images to pre-train on.")
def main(*, seeds: tuple[int, ...], quick: bool, output: Path | None, real: tuple[int, ...], generated: int) -> None:
    task = training.clean_digits()
    images, labels = rendered_digits(1000 if quick else generated, GENERATED_SEED)
    recipe = pretraining_recipe(0, quick=quick)
    settings = (
        f"L = {BRANCHES}, M = {DEPTH}, D = 32, clean digits, {len(task.test_labels)} test images. Pre-training on "
        f"{len(images):,} digits in {len(FONTS)} fonts: {training.settings(recipe)}. Then {STEPS} steps in batches of "
        "up to 64: at most 0.003 from scratch, at most 0.001 after pre-training"
    )
    header = Header("pre-training on generated digits", settings)
    source = dataclasses.replace(task, images=images, labels=labels)
    runs = [run for seed in seeds for run in runs_of_seed(seed, real, source, task, quick=quick)]
    report("pretraining", Run, runs, describe(runs), header, output=output, picture=True)
    if output is not None:
        draw(runs, output)


if __name__ == "__main__":
    main()
