"""Runs a model on some labelled images with several values of its fields."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paraexport.checks.golden import Array, answers
from paraexport.images.dataset import Samples
from paraexport.model.scores import cross_entropy
from paraexport.model.spec import Spec

if TYPE_CHECKING:
    import torch

    from paraexport.checkpoint.load import Checkpoint

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Setting:
    """Values of the fields in doubt. `spec` is None for a module that is traced as it is."""

    spec: Spec | None
    mean: Numbers
    std: Numbers


@dataclass(frozen=True, eq=False)
class Result:
    """How well the answers fit the labels."""

    right: NDArray[np.bool_]
    """Which answers agree with the labels, [n]."""
    losses: NDArray[np.float64]
    """The negative logarithm of the probability of the label, [n]."""


class Trial:
    """Runs the model with a setting on `most` evenly spaced labelled images, and remembers the results.

    Args:
        size: images in one call of the model.
        budget_s: after this time, `is_over` is true.
    """

    def __init__(self, loaded: Checkpoint, samples: Samples, *, most: int, size: int, budget_s: float = np.inf) -> None:
        assert samples.labels is not None
        # Images of a labelled folder are sorted by class. In this order, the first n of them cover all classes, too.
        places = np.random.default_rng(0).permutation(samples.spread(most))
        self.loaded, self.size = loaded, size
        self.labels = samples.labels[places]
        mean, std = (per_channel(values) for values in (loaded.preprocessing.mean, loaded.preprocessing.std))
        self.pixels = samples.at(places) * std + mean
        self.first = Setting(loaded.spec, loaded.preprocessing.mean, loaded.preprocessing.std)
        self.known: dict[tuple[Setting, int], Result] = {}
        self.deadline_s = time.monotonic() + budget_s

    @property
    def images(self) -> int:
        return len(self.labels)

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.deadline_s

    def result(self, setting: Setting, images: int) -> Result:
        """The result on the first n images."""
        images = min(images, self.images)
        if (setting, images) not in self.known:
            model, labels = answers(self.model(setting)), self.labels[:images]
            mean, std = per_channel(setting.mean), per_channel(setting.std)
            logits = class_logits(
                np.concatenate(
                    [
                        model((self.pixels[start : min(start + self.size, images)] - mean) / std)
                        for start in range(0, images, self.size)
                    ]
                )
            )
            self.known[setting, images] = Result(logits.argmax(1) == labels, cross_entropy(logits, labels))
        return self.known[setting, images]

    def loss(self, setting: Setting, images: int) -> float:
        return float(self.result(setting, images).losses.mean())

    def model(self, setting: Setting) -> torch.nn.Module:
        from paraexport.checkpoint.variants import with_spec
        from paraexport.model.reference import ParaFormer

        if setting.spec == self.loaded.spec or not isinstance(self.loaded.module, ParaFormer):
            return self.loaded.original
        assert setting.spec is not None
        return with_spec(self.loaded.module, setting.spec)


def class_logits(outputs: Array) -> Array:
    """Logits [n, classes], at least two: a single output is the logit of "yes", and "no" has 0."""
    return np.concatenate([np.zeros_like(outputs), outputs], 1) if outputs.shape[1] == 1 else outputs


def per_channel(values: Numbers) -> Array:
    """[C, 1, 1], to combine with images."""
    return np.array(values, np.float32)[:, None, None]
