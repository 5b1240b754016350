"""Records the answers of PyTorch and of the bundle to the images of the checks: by class, and where they differ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

PLAIN_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


@dataclass(frozen=True)
class ClassAnswers:
    """The labelled images of one class."""

    number: int
    """The number of the class, as in the labels of images."""
    images: int
    pytorch_correct: int
    engine_correct: int


@dataclass(frozen=True)
class Confusion:
    """How many images of one class got another class as their answer."""

    truth: int
    answer: int
    pytorch: int
    engine: int


@dataclass(frozen=True)
class ScoredLabel:
    label: str
    score: float


@dataclass(frozen=True)
class ComparedImage:
    """One image with the answers of both sides."""

    name: str
    """The file's name, or `image 17`."""
    png: str
    """The image after preprocessing, as a small PNG in base64."""
    truth: str | None
    """The label; None for images without labels."""
    pytorch: tuple[ScoredLabel, ...]
    """The labels with the highest scores, the best first."""
    engine: tuple[ScoredLabel, ...]
    largest_change: float
    """The largest difference of one score."""
    same_answer: bool


@dataclass(frozen=True)
class AnswerReport:
    """The answers of PyTorch and of the bundle to the same images."""

    images: int
    changed: int | None
    """The number of images with another answer, ties included; None for measured values."""
    classes: int
    """The number of classes with images; 0 without labels."""
    by_class: tuple[ClassAnswers, ...]
    """All classes with images, or only the least accurate ones if there are many."""
    confusions: tuple[Confusion, ...]
    """The wrong answers, the most frequent first; only the first ones if there are many classes."""
    compared: tuple[ComparedImage, ...]
    """The images whose answers or scores changed most."""

    def problems(self, classes: int) -> Iterator[str]:
        """Find contradictions, each as one clause. `classes` is the number of classes of the model."""
        numbers = [entry.number for entry in self.by_class]
        numbers += [number for pair in self.confusions for number in (pair.truth, pair.answer)]
        if self.images < 1 or any(entry.images < 1 for entry in self.by_class):
            yield "answers to less than one image"
        if any(not 0 <= number < classes for number in numbers):
            yield f"classes that are not in 0..{classes - 1}"
        if any(not PLAIN_BASE64.fullmatch(image.png) for image in self.compared):
            yield "a picture that is not base64"
