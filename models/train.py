"""The training of the example checkpoints: `python -m models.train NAME`, with a name of `RECIPES`.

A cross-entropy on every prefix of branches makes the first k branches alone a usable model for every k. The test images
are read once, after the last step; `--validate` is for choosing a recipe and leaves them alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from calib import make_digits
from paraexport.checkpoint.native import save_checkpoint
from paraexport.images.dataset import open_samples
from paraexport.images.preprocess import prepare_batch
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Preprocessing, Spec

HERE = Path(__file__).parent
CALIB = HERE.parent / "calib"
LABELS = tuple("0123456789")
PREPROCESSING = Preprocessing(
    image_size=(make_digits.SIZE, make_digits.SIZE),
    channels=1,
    resize=(make_digits.SIZE, make_digits.SIZE),
    mean=(0.5,),
    std=(0.5,),
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a checkpoint, up to the versions and the CPU that the card names."""

    spec: Spec
    test_images: str
    """In `calib/`: a labelled folder or .npz."""
    epochs: int
    batch_size: int = 64
    learning_rate: float = 2e-3
    """At its highest; it falls to zero along a half cosine."""
    warmup_epochs: int = 5
    weight_decay: float = 0.2
    max_shift: int
    """Pixels: each training image is moved by up to so many in either direction, afresh in every epoch."""
    whole_pixels: bool = True
    """Whether those moves are of whole pixels, or of any length, interpolated."""
    noise_sigma: float = 0.0
    """Of the pixel noise on training images, on the 0..1 scale, afresh in every epoch."""
    seed: int


def spec(branches: int) -> Spec:
    """The shape of `digits` and `noisy_digits`."""
    return Spec(
        image_size=PREPROCESSING.image_size,
        channels=PREPROCESSING.channels,
        classes=len(LABELS),
        patch_size=(8, 8),
        dim=64,
        branches=branches,
        depth=2,
        heads=2,
        head_dim=32,
        mlp_dim=256,
        residual="normalized",
        qkv_bias=False,
    )


RECIPES = {
    "digits": Recipe(
        spec=spec(branches=4), test_images="digits/test", epochs=100, max_shift=3, whole_pixels=False, seed=0
    ),
    "noisy_digits": Recipe(
        spec=spec(branches=8),
        test_images="noisy_digits.npz",
        epochs=80,
        max_shift=1,
        noise_sigma=make_digits.NOISE_SIGMA,
        seed=0,
    ),
    "prenorm_digits": Recipe(
        spec=dataclasses.replace(spec(branches=4), dim=32, head_dim=16, mlp_dim=64, residual="input", qkv_bias=True),
        test_images="digits/test",
        epochs=100,
        max_shift=3,
        whole_pixels=False,
        seed=0,
    ),
}


def train(recipe: Recipe, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> ParaFormer:
    """A model trained from scratch on uint8 [N, H, W, C] and int64 [N]; the same weights each time on one machine."""
    make_deterministic(recipe.seed)
    model = ParaFormer(recipe.spec)

    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        return prefix_loss(model.prefix_logits(inputs), targets)

    def print_loss(epoch: int, mean_loss: float) -> None:
        click.echo(f"epoch {epoch}/{recipe.epochs}: loss {mean_loss:.4f}", err=True)

    fit(model, loss, recipe, images, labels, report=print_loss)
    return model


def make_deterministic(seed: int) -> None:
    """Seed PyTorch, and let it use one thread and deterministic kernels only."""
    torch.set_num_threads(1)  # a sum's order, and so its last bits, changes with the number of threads
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)


def fit(
    model: nn.Module,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    recipe: Recipe,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    report: Callable[[int, float], None] = lambda _epoch, _loss: None,
) -> None:
    """Train `model` as the recipe says, on uint8 [N, H, W, C] and int64 [N], and leave it in evaluation mode.

    Args:
        loss_of: computes the loss of `model` for float32 [B, C, H, W] and int64 [B].
        report: gets the number of each epoch, from 1, and its mean loss.
    """
    stream = np.random.RandomState(recipe.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    batches = -(-len(images) // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        recipe.learning_rate,
        total_steps=recipe.epochs * batches,
        pct_start=recipe.warmup_epochs / recipe.epochs,
        cycle_momentum=False,
    )
    model.train()
    for epoch in range(1, recipe.epochs + 1):
        losses = []
        inputs, targets = torch.from_numpy(augment(images, recipe, stream)), torch.from_numpy(labels)
        order = torch.from_numpy(stream.permutation(len(images)))
        for start in range(0, len(images), recipe.batch_size):
            batch = order[start : start + recipe.batch_size]
            loss = loss_of(inputs[batch], targets[batch])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        report(epoch, float(np.mean(losses)))
    model.eval()


def prefix_loss(prefixes: list[Tensor], targets: Tensor) -> Tensor:
    """The mean over k of the cross-entropy of the first k branches; L tensors [B, classes] and [B]."""
    return torch.stack([F.cross_entropy(logits, targets) for logits in prefixes]).mean()


def augment(images: NDArray[np.uint8], recipe: Recipe, stream: np.random.RandomState) -> NDArray[np.float32]:
    """Shifted (black moves in), noisy and preprocessed: uint8 [N, H, W, C] -> float32 [N, C, H, W]."""
    shift = shift_by_pixels if recipe.whole_pixels else shift_between_pixels
    shifted = shift(images, recipe.max_shift, stream)
    if recipe.noise_sigma:
        shifted = make_digits.add_noise(shifted, recipe.noise_sigma, stream)
    return prepare_batch(shifted, PREPROCESSING)


def shift_by_pixels(images: NDArray[np.uint8], reach: int, stream: np.random.RandomState) -> NDArray[np.uint8]:
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    windows = sliding_window_view(padded, (height, width), axis=(1, 2))  # [N, down, across, C, H, W]
    down, across = stream.randint(0, 2 * reach + 1, (2, count))
    return windows[np.arange(count), down, across].transpose(0, 2, 3, 1)


def shift_between_pixels(images: NDArray[np.uint8], reach: int, stream: np.random.RandomState) -> NDArray[np.uint8]:
    count, height, width, _ = images.shape
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    moves = torch.from_numpy(stream.uniform(-reach, reach, (count, 2))).float() * 2 / torch.tensor([width, height])
    matrices = torch.cat([torch.eye(2).expand(count, 2, 2), moves[..., None]], dim=2)  # [N, 2, 3]
    grid = F.affine_grid(matrices, list(pixels.shape), align_corners=False)
    shifted = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return shifted.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def correct_by_branches(model: ParaFormer, images: NDArray[np.float32], labels: NDArray[np.int64]) -> list[int]:
    """How many of the images the first k branches alone get right, for k = 1, 2, …, L."""
    targets = torch.from_numpy(labels)
    return [int((logits.argmax(1) == targets).sum()) for logits in model.prefix_logits(torch.from_numpy(images))]


@click.command()
@click.argument("name", type=click.Choice(list(RECIPES)))
@click.option("--validate", type=int, metavar="SEED", help="Hold out a fifth of the training images; write nothing.")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=HERE, help="Folder to write to."
)
def main(name: str, validate: int | None, output: Path) -> None:
    """Train the model NAME; write NAME.pt, and its accuracy on the test images as NAME.json."""
    recipe = RECIPES[name]
    images, labels = make_digits.digits()
    kept, _ = make_digits.split(labels)
    if validate is not None:
        run_validation(dataclasses.replace(recipe, seed=validate), images[kept], labels[kept])
        return
    started = time.perf_counter()
    model = train(recipe, images[kept], labels[kept])
    seconds = time.perf_counter() - started
    checkpoint = output / f"{name}.pt"
    save_checkpoint(checkpoint, model, preprocessing=PREPROCESSING, labels=LABELS)
    samples = open_samples(CALIB / recipe.test_images, PREPROCESSING, LABELS, need_labels=True)
    assert samples.labels is not None
    correct = correct_by_branches(model, samples.pick(len(samples)), samples.labels)
    print_accuracy(correct, len(samples))
    click.echo(f"{len(kept)} training images, {seconds:.0f} s, {checkpoint.stat().st_size} bytes")
    card = {
        "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "test_images": len(samples),
        "correct_by_branches": correct,
        "accuracy_by_branches": [count / len(samples) for count in correct],
        "training": {
            "images": len(kept),
            "seconds": round(seconds),
            "recipe": {key: value for key, value in dataclasses.asdict(recipe).items() if key != "spec"},
            "versions": {
                "python": platform.python_version(),
                **{package: version(package) for package in ("torch", "numpy", "pillow", "scikit-learn")},
            },
            "machine": f"one CPU thread, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        },
    }
    (output / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n")


def run_validation(recipe: Recipe, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """The same training on four fifths of the training images, measured on the rest: eight noisy copies, if noisy.

    The recipe's seed decides the split as well.
    """
    kept, held_out = make_digits.split(labels, recipe.seed)
    unseen, answers = images[held_out], labels[held_out]
    if recipe.noise_sigma:
        unseen, answers = np.tile(unseen, (8, 1, 1, 1)), np.tile(answers, 8)
        unseen = make_digits.add_noise(unseen, recipe.noise_sigma, np.random.RandomState(recipe.seed))
    model = train(recipe, images[kept], labels[kept])
    print_accuracy(correct_by_branches(model, prepare_batch(unseen, PREPROCESSING), answers), len(answers))


def print_accuracy(correct: list[int], total: int) -> None:
    for k, count in enumerate(correct, 1):
        click.echo(f"first {k} of {len(correct)} branches: {count}/{total} = {100 * count / total:.2f} %")


if __name__ == "__main__":
    main()
