"""Tries other values of assumed and hand-given fields on labelled images, and reports values that fit far better."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paraexport.checks.golden import Array, answers
from paraexport.findings.words import option_text
from paraexport.images import class_order
from paraexport.images.dataset import Samples
from paraexport.model.scores import classes_of, cross_entropy
from paraexport.model.spec import LOGITS, Spec
from paraexport.pipeline.options import Reading

if TYPE_CHECKING:
    import torch

    from paraexport.checkpoint.load import Checkpoint

Numbers = tuple[float, ...]
NORMALISATIONS: tuple[tuple[Numbers, Numbers], ...] = (
    ((0.0,), (1.0,)),
    ((0.5,), (0.5,)),
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ((0.1307,), (0.3081,)),
    ((0.0,), (1 / 255,)),
)
"""Usual means and standard deviations: none, half, those of ImageNet, CIFAR-10 and MNIST, and pixels up to 255."""
UNDETERMINED = ("heads", "residual", "activation", "pool")
"""Fields of the spec that change the function of the model, but none of its weights."""
DOUBTFUL = (*UNDETERMINED, "head_dim", "mean", "std")
IMAGES, SEARCHED = 256, 64
"""Images for the verdict and for the search."""
MOST_CHANGES, FINALISTS = 3, 3
DEVIATIONS = 3.0
"""Other values are reported if they make more answers right than chance would, by this many standard deviations."""
NEEDED = 2.0
"""A change among them counts as needed if it lowers the loss by this many standard deviations."""


@dataclass(frozen=True)
class Setting:
    """Values of the fields in doubt. `spec` is None for a module that is traced as it is."""

    spec: Spec | None
    mean: Numbers
    std: Numbers

    def fields(self, other: Setting) -> dict[str, str]:
        """The fields in which this differs from `other`, as text for `--spec`."""
        mine, others = ({**(vars(item.spec) if item.spec else {}), **vars(item)} for item in (self, other))
        names = [name for name in mine if name not in ("spec", "head_dim") and mine[name] != others[name]]
        texts = {name: text_of(mine[name]) for name in names}
        return texts | ({"mean": text_of(self.mean), "std": text_of(self.std)} if {"mean", "std"} & {*names} else {})

    def with_field(self, name: str, other: Setting) -> Setting:
        """This setting with one field of the spec as in `other`."""
        assert self.spec is not None
        assert other.spec is not None
        names = (name, "head_dim") if name == "heads" else (name,)
        spec = dataclasses.replace(self.spec, **{field: getattr(other.spec, field) for field in names})
        return dataclasses.replace(self, spec=spec)


def text_of(value: object) -> str:
    return ",".join(f"{number:.6g}" for number in value) if isinstance(value, tuple) else option_text(value)


def doubts(loaded: Checkpoint, samples: Samples, logits: Array, given: Reading) -> tuple[str, ...]:
    """Report an accuracy far below the one in the checkpoint, and values of fields that fit the labels far better.

    Args:
        logits: PyTorch's logits for all samples, [N, classes].
    """
    if samples.labels is None or loaded.classifier.classes < 2:
        return ()
    lines: list[str] = []
    if (record := loaded.accuracy) is not None:
        right = int((classes_of(logits, LOGITS) == samples.labels).sum())
        lines += class_order.below_record(right, len(samples), record.percent, record.name)
    fields = {item.field for item in loaded.assumptions} | {*given.spec}
    if fields & {*DOUBTFUL}:
        lines += better_values(loaded, samples, samples.labels, fields)
    return tuple(lines)


def better_values(
    loaded: Checkpoint, samples: Samples, labels: NDArray[np.int64], fields: Collection[str]
) -> Iterator[str]:
    """Report values with which far more of PyTorch's answers agree with the labels."""
    places = samples.spread(IMAGES)
    trial = Trial(loaded, samples.at(places), labels[places])
    first = Setting(loaded.spec, loaded.preprocessing.mean, loaded.preprocessing.std)
    # Fewer errors than this leave no room for an improvement that is no accident.
    if (~trial.right(first)).sum() < DEVIATIONS**2:
        return
    best = without_needless(trial, search(trial, first, fields), first)
    if not is_better(trial.right(best), trial.right(first)):
        return
    now, then = (int(trial.right(setting).sum()) for setting in (first, best))
    changes = best.fields(first)
    others = {name: [*as_good(trial, best, name)] for name in changes}
    words = " ".join(f"{name}={' or '.join([value, *others[name]])}" for name, value in changes.items())
    options = " ".join(f"--spec {name}={'VALUE' if others[name] else value}" for name, value in changes.items())
    yield (
        f"PyTorch's answers agree with the labels for {now} of {len(places)} images, and for {then} with {words}; if "
        f"the model was trained so, give {options}"
    )


def search(trial: Trial, setting: Setting, fields: Collection[str]) -> Setting:
    """Change one field at a time, each time the one that lowers the loss most, until none does.

    Every candidate runs on a few images, and the best of them on all.
    """
    for _ in range(MOST_CHANGES):
        candidates = [*neighbours(setting, fields, trial.loaded.classifier.channels)]
        promising = sorted(candidates, key=lambda other: trial.losses(other, SEARCHED).mean())[:FINALISTS]
        best = min((setting, *promising), key=lambda other: trial.losses(other, IMAGES).mean())
        if best == setting:
            break
        setting = best
    return setting


def without_needless(trial: Trial, best: Setting, first: Setting) -> Setting:
    """Take back each change without which the loss is hardly larger."""
    for name in UNDETERMINED if best.spec is not None else ():
        simpler = best.with_field(name, first)
        if not exceeds(trial.losses(simpler, IMAGES), trial.losses(best, IMAGES)):
            best = simpler
    simpler = dataclasses.replace(best, mean=first.mean, std=first.std)
    return best if exceeds(trial.losses(simpler, IMAGES), trial.losses(best, IMAGES)) else simpler


def as_good(trial: Trial, best: Setting, field: str) -> Iterator[str]:
    """List the other values of a field of the spec that these images cannot tell from the best one."""
    if best.spec is not None and field in vars(best.spec):
        for other in neighbours(best, {field}, trial.loaded.classifier.channels):
            if not exceeds(trial.losses(other, IMAGES), trial.losses(best, IMAGES)):
                yield other.fields(best)[field]


def exceeds(losses: NDArray[np.float64], others: NDArray[np.float64]) -> bool:
    """Whether the losses [N] are larger than the others, for the same images, by more than chance explains."""
    difference = losses - others
    error = difference.std() / len(difference) ** 0.5
    return bool(difference.mean() > NEEDED * error)


def neighbours(setting: Setting, fields: Collection[str], channels: int) -> Iterator[Setting]:
    """All settings that differ in one of the fields. Mean and std are one field."""
    from paraexport.checkpoint.variants import variants

    if setting.spec is not None:
        for name in UNDETERMINED:
            if name in fields or (name == "heads" and "head_dim" in fields):
                yield from (dataclasses.replace(setting, spec=spec) for spec in variants(setting.spec, name))
    if "mean" in fields or "std" in fields:
        for mean, std in NORMALISATIONS:
            if len(mean) in (1, channels):
                wide = Setting(setting.spec, *(values * (channels // len(values)) for values in (mean, std)))
                if wide != setting:
                    yield wide


class Trial:
    """Runs the model with a setting on prepared images [N, C, h, w] with labels [N]."""

    def __init__(self, loaded: Checkpoint, images: Array, labels: NDArray[np.int64]) -> None:
        self.loaded, self.labels = loaded, labels
        mean, std = (per_channel(values) for values in (loaded.preprocessing.mean, loaded.preprocessing.std))
        self.pixels = images * std + mean
        self.known: dict[tuple[Setting, int], NDArray[np.float64]] = {}

    def outputs(self, setting: Setting, images: int) -> Array:
        """PyTorch's outputs [n, classes] for the first n images."""
        pixels = self.pixels[:images]
        return answers(self.model(setting))((pixels - per_channel(setting.mean)) / per_channel(setting.std))

    def right(self, setting: Setting) -> NDArray[np.bool_]:
        """Which answers agree with the labels, bool [N]."""
        return classes_of(self.outputs(setting, len(self.labels)), LOGITS) == self.labels

    def losses(self, setting: Setting, images: int) -> NDArray[np.float64]:
        """The negative logarithm of the probability of the label, for each of the first n images."""
        if (setting, images) not in self.known:
            outputs = self.outputs(setting, images)
            self.known[setting, images] = cross_entropy(outputs, self.labels[:images])
        return self.known[setting, images]

    def model(self, setting: Setting) -> torch.nn.Module:
        from paraexport.checkpoint.variants import with_spec
        from paraexport.model.reference import ParaFormer

        if setting.spec == self.loaded.spec or not isinstance(self.loaded.module, ParaFormer):
            return self.loaded.original
        assert setting.spec is not None
        return with_spec(self.loaded.module, setting.spec)


def per_channel(values: Numbers) -> Array:
    """[C, 1, 1], to combine with images."""
    return np.array(values, np.float32)[:, None, None]


def is_better(right: NDArray[np.bool_], before: NDArray[np.bool_]) -> bool:
    """Whether more answers are right than chance explains.

    McNemar's test: among the images where only one of the two is right, each wins half of them by chance.
    """
    won, lost = int((right & ~before).sum()), int((before & ~right).sum())
    return won - lost >= DEVIATIONS * (won + lost) ** 0.5 > 0
