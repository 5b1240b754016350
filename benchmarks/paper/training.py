"""What the experiments train on and how: digits, a small Para-Former, a recipe, accuracy.

Everything is deterministic with a seed, on one machine with one version of PyTorch. The seed decides the initial
weights, the order of the images and their augmentation. The split of the digits is fixed.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from calib import make_digits
from models.train import PREPROCESSING, Recipe, fit, make_deterministic, shift_by_pixels
from paraexport.images.preprocess import prepare_batch
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Residual, Spec

Model = TypeVar("Model", bound=nn.Module)
SEEDS = (0, 1, 2)
NOISES = 8
"""Fixed noises of each test image, so that chance in the test plays a smaller part."""
EVALUATED_AT_ONCE = 512
BASE = Spec(
    image_size=PREPROCESSING.image_size, channels=PREPROCESSING.channels, classes=10, patch_size=(8, 8), dim=32,
    branches=1, depth=1, heads=2, head_dim=16, mlp_dim=64, residual="normalized", qkv_bias=False,
)  # fmt: skip
"""Half as wide as the example models, so that one core can train all sizes: 17 tokens of 32 numbers."""
QUICK_EPOCHS = 2


@dataclass(frozen=True)
class Task:
    """Digits to train on, uint8 [N, 32, 32, 1], and prepared digits to test on, float32 [N, 1, 32, 32]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    test_images: Tensor
    test_labels: Tensor

    def some(self, count: int, seed: int) -> Task:
        """The same task with `count` training images, drawn by the seed, each class as often as the others."""
        stream = np.random.RandomState(seed)
        classes = [stream.permutation(np.flatnonzero(self.labels == label)) for label in np.unique(self.labels)]
        in_turn = [members[place] for place in range(len(self.labels)) for members in classes if place < len(members)]
        chosen = np.sort(in_turn[:count])
        return dataclasses.replace(self, images=self.images[chosen], labels=self.labels[chosen])


@dataclass(frozen=True)
class Outcome:
    """The result of one training."""

    accuracy: float
    """In percent, on the test images."""
    parameters: int
    train_s: float


def clean_digits() -> Task:
    return task(noises=0)


def noisy_digits(shift: int = 0) -> Task:
    """Test images with `NOISES` fixed noises each. The noise of training images is fresh in every epoch.

    Args:
        shift: pixels; each test image is moved by up to so many, fixed as well.
    """
    return task(NOISES, shift)


def task(noises: int, shift: int = 0) -> Task:
    """scikit-learn's digits in the split of the example models: 1438 to train on, 359 to test on."""
    images, labels = make_digits.digits()
    kept, held_out = make_digits.split(labels)
    unseen, answers = images[held_out], labels[held_out]
    stream = np.random.RandomState(make_digits.TEST_NOISE_SEED)
    if noises:
        unseen, answers = np.tile(unseen, (noises, 1, 1, 1)), np.tile(answers, noises)
        unseen = make_digits.add_noise(shift_by_pixels(unseen, shift, stream), make_digits.NOISE_SIGMA, stream)
    prepared = torch.from_numpy(prepare_batch(unseen, PREPROCESSING))
    return Task(images[kept], labels[kept], prepared, torch.from_numpy(answers))


def spec(branches: int, depth: int, *, residual: Residual = BASE.residual) -> Spec:
    return dataclasses.replace(BASE, branches=branches, depth=depth, residual=residual)


def noisy_recipe(seed: int, *, quick: bool = False) -> Recipe:
    """For `noisy_digits`: the loss is that of all branches together, as in the paper, not of every prefix."""
    return Recipe(
        spec=BASE,
        test_images="",
        epochs=QUICK_EPOCHS if quick else 40,
        batch_size=128,
        learning_rate=3e-3,
        warmup_epochs=1 if quick else 4,
        weight_decay=0.1,
        max_shift=1,
        noise_sigma=make_digits.NOISE_SIGMA,
        seed=seed,
    )


def settings(recipe: Recipe) -> str:
    """The recipe in a line, for the page of results."""
    return (
        f"AdamW, at most {recipe.learning_rate:g}, {recipe.warmup_epochs} epochs of warm-up and a half cosine, weight "
        f"decay {recipe.weight_decay:g}, {recipe.epochs} epochs in batches of {recipe.batch_size}, shifts of up to "
        f"{recipe.max_shift} pixel, noise {recipe.noise_sigma:g}"
    )


def train(build: Callable[[], Model], recipe: Recipe, task: Task) -> tuple[Model, Outcome]:
    """Build a model, which takes its initial weights from the seed, train it, and test it.

    Args:
        build: returns a module that maps float32 [B, 1, 32, 32] to logits [B, 10].
    """
    make_deterministic(recipe.seed)
    model = build()
    started_s = time.perf_counter()
    fit(model, lambda inputs, targets: F.cross_entropy(model(inputs), targets), recipe, task.images, task.labels)
    train_s = time.perf_counter() - started_s
    return model, Outcome(accuracy(model, task), count_parameters(model), train_s)


@torch.no_grad()
def accuracy(model: nn.Module, task: Task) -> float:
    """Percent of the test images."""
    answers = [model(images).argmax(1) for images in torch.split(task.test_images, EVALUATED_AT_ONCE)]
    return 100 * float((torch.cat(answers) == task.test_labels).double().mean())


def count_parameters(model: nn.Module) -> int:
    """Numbers in all parameters; a tensor that several modules share counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def para_former(spec: Spec) -> Callable[[], ParaFormer]:
    return lambda: ParaFormer(spec)
