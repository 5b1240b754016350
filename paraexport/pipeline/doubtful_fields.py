"""Tries other values of assumed and hand-given fields on labelled images, and reports values that fit far better."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paraexport.checks.golden import Array
from paraexport.findings.words import option_text
from paraexport.images import class_order
from paraexport.images.dataset import Samples
from paraexport.pipeline.options import Reading
from paraexport.pipeline.trial import Numbers, Setting, Trial, class_logits
from paraexport.timing.clock import Progress, silent

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint

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
ROUNDS = ((16, 8), (64, 5))
"""Other values run on this many images, and this many of them go on to the next round; the last round has `IMAGES`."""
IMAGES = 256
MOST_CHANGES = 3
LEAST_BUDGET_S, SHARE = 10.0, 0.4
"""The search ends after this time, or after this share of the time that PyTorch took for all images."""
DEVIATIONS = 3.0
"""Other values are reported if they make more answers right than chance would, by this many standard deviations."""
NEEDED = 2.0
"""A change among them counts as needed if it lowers the loss by this many standard deviations."""


def changes(setting: Setting, other: Setting) -> dict[str, str]:
    """The fields in which `setting` differs from `other`, as text for `--spec`. Mean and std go together."""
    texts = {}
    if setting.spec is not None and other.spec is not None:
        for name in UNDETERMINED:
            if getattr(setting.spec, name) != getattr(other.spec, name):
                texts[name] = option_text(getattr(setting.spec, name))
    if (setting.mean, setting.std) != (other.mean, other.std):
        texts |= {"mean": numbers_text(setting.mean), "std": numbers_text(setting.std)}
    return texts


def numbers_text(values: Numbers) -> str:
    return ",".join(f"{value:.6g}" for value in (values[:1] if len({*values}) == 1 else values))


def doubts(
    loaded: Checkpoint,
    samples: Samples,
    logits: Array,
    given: Reading,
    *,
    size: int,
    pytorch_s: float = 0.0,
    progress: Progress = silent,
) -> tuple[str, ...]:
    """Report an accuracy far below the one in the checkpoint, and values of fields that fit the labels far better.

    Args:
        logits: PyTorch's logits for all samples, [N, classes].
        size: images in one call of the model.
        pytorch_s: the seconds that PyTorch took for all samples.
    """
    if samples.labels is None:
        return ()
    lines: list[str] = []
    if (record := loaded.accuracy) is not None:
        right = int((class_logits(logits).argmax(1) == samples.labels).sum())
        lines += class_order.below_record(right, len(samples), record.percent, record.name)
    fields = {item.field for item in loaded.assumptions} | {*given.spec}
    if fields & {*DOUBTFUL}:
        progress("PyTorch: other values of the fields in doubt")
        budget_s = max(LEAST_BUDGET_S, SHARE * pytorch_s)
        lines += better_values(Trial(loaded, samples, most=IMAGES, size=size, budget_s=budget_s), fields)
    return tuple(lines)


def better_values(trial: Trial, fields: Collection[str]) -> Iterator[str]:
    """Report values with which far more of PyTorch's answers agree with the labels."""
    first = trial.first
    before = trial.result(first, IMAGES).right
    # Fewer errors than this leave no room for an improvement that is no accident.
    if (~before).sum() < DEVIATIONS**2:
        return
    best = without_needless(trial, search(trial, first, fields), first)
    after = trial.result(best, IMAGES).right
    if not is_better(after, before):
        if trial.is_over:
            names = ", ".join(name for name in DOUBTFUL if name in fields)
            yield f"not all other values of {names} were tried, because the model is slow; check them"
        return
    texts = changes(best, first)
    others = {name: [*as_good(trial, best, name)] for name in texts}
    words = " ".join(f"{name}={' or '.join([value, *others[name]])}" for name, value in texts.items())
    options = " ".join(f"--spec {name}={'VALUE' if others[name] else value}" for name, value in texts.items())
    yield (
        f"PyTorch's answers agree with the labels for {before.sum()} of {trial.images} images, and for {after.sum()} "
        f"with {words}; if the model was trained so, give {options}"
    )


def search(trial: Trial, setting: Setting, fields: Collection[str]) -> Setting:
    """Change one field at a time, each time the one that lowers the loss most, until none does or the time is over.

    Values that clearly raise the loss on a few images are dropped before they run on all.
    """
    for _ in range(MOST_CHANGES):
        candidates = [*neighbours(setting, fields, trial.loaded.classifier.channels)]
        for images, most in ROUNDS:
            own = trial.result(setting, images).losses
            candidates = [other for other in candidates if not exceeds(trial.result(other, images).losses, own)]
            candidates = sorted(candidates, key=lambda other: trial.loss(other, images))[:most]
            if trial.is_over:
                return setting
        best = min((setting, *candidates), key=lambda other: trial.loss(other, IMAGES))
        if best == setting:
            break
        setting = best
    return setting


def without_needless(trial: Trial, best: Setting, first: Setting) -> Setting:
    """Take back each change without which the loss is hardly larger."""
    for name in changes(best, first):
        simpler = with_field(best, name, first)
        if not exceeds(trial.result(simpler, IMAGES).losses, trial.result(best, IMAGES).losses):
            best = simpler
    return best


def with_field(setting: Setting, name: str, other: Setting) -> Setting:
    """This setting with one field as in `other`."""
    if name in ("mean", "std"):
        return dataclasses.replace(setting, mean=other.mean, std=other.std)
    assert setting.spec is not None
    assert other.spec is not None
    names = (name, "head_dim") if name == "heads" else (name,)
    spec = dataclasses.replace(setting.spec, **{field: getattr(other.spec, field) for field in names})
    return dataclasses.replace(setting, spec=spec)


def as_good(trial: Trial, best: Setting, field: str) -> Iterator[str]:
    """List the other values of a field of the spec that these images cannot tell from the best one."""
    if field in UNDETERMINED:
        for other in neighbours(best, {field}, trial.loaded.classifier.channels):
            few = ROUNDS[-1][0]
            if all(
                not exceeds(trial.result(other, images).losses, trial.result(best, images).losses)
                for images in (few, IMAGES)
            ):
                yield changes(other, best)[field]


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


def is_better(right: NDArray[np.bool_], before: NDArray[np.bool_]) -> bool:
    """Whether more answers are right than chance explains.

    McNemar's test: among the images where only one of the two is right, each wins half of them by chance.
    """
    won, lost = int((right & ~before).sum()), int((before & ~right).sum())
    return won - lost >= DEVIATIONS * (won + lost) ** 0.5 > 0
