"""Compare the answers of a graph with PyTorch's on labelled images: top-1, agreement, errors of logits.

Images go in batches of `BATCH`. The size matters for dynamic quantisation, which computes its scales for each batch.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import worker
from benchmarks.harness.contest import Contestant, Family
from benchmarks.harness.subjects import Recipe, write_graphs
from calib import make_digits
from paraexport.checkpoint.load import load_checkpoint
from paraexport.images.dataset import open_samples
from paraexport.images.preprocess import prepare_batch
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Preprocessing

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
ROOT = Path(__file__).parents[2]
BATCH = 8
LABELS = tuple(str(digit) for digit in range(10))
MORE_NOISE_SEEDS = range(100, 108)


@dataclass(frozen=True)
class LabelledImages:
    """Images with their classes."""

    name: str
    images: Floats
    """[N, C, H, W], preprocessed."""
    labels: Integers


@dataclass(frozen=True)
class Case:
    """A trained checkpoint with its calibration images and test sets."""

    name: str
    checkpoint: Path
    calibration: Path
    tests: Callable[[Preprocessing], Sequence[LabelledImages]]


@dataclass(frozen=True)
class Accuracy:
    """One contestant on one test set. The fields are the columns of the CSV. If it failed, `note` gives the reason."""

    model: str
    test: str
    images: int
    contestant: str
    family: Family
    runner: str
    graph: str
    pytorch_correct: int
    correct: int | None = None
    points_lost: float | None = None
    """Top-1 of PyTorch minus this top-1, in percentage points."""
    differing: int | None = None
    """Images with a different top-1 class from PyTorch's."""
    agreement: float | None = None
    """Percent of images with the same top-1 class as PyTorch's."""
    largest_error: float | None = None
    """max |Δ logit|, then its root mean square."""
    rms_error: float | None = None
    note: str = ""


def clean_digits(preprocessing: Preprocessing) -> list[LabelledImages]:
    return [labelled("test split", ROOT / "calib/digits/test", preprocessing)]


def noisy_digits(preprocessing: Preprocessing) -> list[LabelledImages]:
    """The committed test images, then the same digits with other noise: enough images to see small differences."""
    pixels, labels = make_digits.digits()
    _, test = make_digits.split(labels)
    noisy = [
        make_digits.add_noise(pixels[test], make_digits.NOISE_SIGMA, np.random.RandomState(seed))
        for seed in MORE_NOISE_SEEDS
    ]
    repeated = LabelledImages(
        f"test split in {len(noisy)} more noises",
        prepare_batch(np.concatenate(noisy), preprocessing),
        np.tile(labels[test], len(noisy)),
    )
    return [labelled("test split", ROOT / "calib/noisy_digits.npz", preprocessing), repeated]


CASES = (
    Case("digits", ROOT / "models/digits.pt", ROOT / "calib/digits/calibration", clean_digits),
    Case("noisy_digits", ROOT / "models/noisy_digits.pt", ROOT / "calib/noisy_digits_calibration.npy", noisy_digits),
)


def labelled(name: str, path: Path, preprocessing: Preprocessing) -> LabelledImages:
    samples = open_samples(path, preprocessing, LABELS, need_labels=True)
    assert samples.labels is not None
    return LabelledImages(name, samples.pick(len(samples)), samples.labels)


def measure(
    case: Case, contestants: Sequence[Contestant], recipes: Mapping[str, Recipe], folder: Path, threads: int
) -> list[Accuracy]:
    """Every contestant on every test set of `case`. It creates `folder` and writes the graphs there."""
    folder.mkdir(parents=True)
    loaded = load_checkpoint(case.checkpoint)
    model = loaded.module
    assert isinstance(model, ParaFormer)
    samples = open_samples(case.calibration, loaded.preprocessing, loaded.labels, need_labels=False)
    np.save(folder / "calibration.npy", samples.pick(len(samples)))
    shutil.copy(case.checkpoint, folder / "model.pt")
    subject = write_graphs(model, folder, [contestant.graph for contestant in contestants], recipes)
    rows = []
    for test in case.tests(loaded.preprocessing):
        with torch.inference_mode():
            expected = np.concatenate([model(torch.from_numpy(batch)).numpy() for batch in batches(test.images)])
        correct = int((expected.argmax(1) == test.labels).sum())
        for contestant in contestants:
            row = Accuracy(
                case.name, test.name, len(test.labels), contestant.name, contestant.family, contestant.runner,
                contestant.graph, correct,
                note=subject.failed.get(contestant.graph, subject.notes.get(contestant.graph, "")),
            )  # fmt: skip
            if contestant.graph not in subject.failed:
                row = with_accuracy(row, folder, test, expected, threads)
            rows.append(row)
    return rows


def with_accuracy(row: Accuracy, folder: Path, test: LabelledImages, expected: Floats, threads: int) -> Accuracy:
    try:
        session = worker.OPENERS[row.runner](folder, row.graph, threads)
        logits = np.concatenate([session(batch) for batch in batches(test.images)])
    except Exception as error:  # a peer that fails is a result
        return dataclasses.replace(row, note=f"{type(error).__name__}: {worker.on_one_line(error)}")
    return compare(row, logits, expected, test.labels)


def compare(row: Accuracy, logits: Floats, expected: Floats, labels: Integers) -> Accuracy:
    """Compare logits [N, classes] with PyTorch's. Logits that are not finite count as wrong and as different."""
    finite = np.isfinite(logits).all(1)
    top, reference = np.where(finite, logits.argmax(1), -1), expected.argmax(1)
    correct, differing = int((top == labels).sum()), int((top != reference).sum())
    errors = np.abs(logits.astype(np.float64) - expected)
    return dataclasses.replace(
        row,
        correct=correct,
        points_lost=100 * (row.pytorch_correct - correct) / len(labels),
        differing=differing,
        agreement=100 * (1 - differing / len(labels)),
        largest_error=float(errors.max()),
        rms_error=float(np.sqrt((errors**2).mean())),
    )


def batches(images: Floats) -> Iterable[Floats]:
    return (images[start : start + BATCH] for start in range(0, len(images), BATCH))
