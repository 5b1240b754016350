"""Records the result of a check, and accuracy on labelled images."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One comparison and its verdict. `passed` is None if it did not run, or if no value could exceed its limit."""

    name: str
    value: float | None
    limit: float
    unit: str
    samples: int
    passed: bool | None
    reason: str
    """The reason for the limit, a note that the user moved it, or why the check did not run."""

    @property
    def verdict(self) -> str:
        """`passed`, `failed`, `not run` or `no limit`."""
        if self.passed is None:
            return "not run" if self.value is None else "no limit"
        return "passed" if self.passed else "failed"


@dataclass(frozen=True)
class Accuracy:
    """Top-1 on labelled images, as numbers of images."""

    images: int
    pytorch_correct: int | None
    """None if PyTorch did not run."""
    engine_correct: int
