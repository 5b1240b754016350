"""Measures with PyTorch what each branch is worth: its share of the answers, and the answers without it.

The tokens z = Σ_l z_l are summed before the norm and the head. At the norm's scale for the whole sum, the head is
linear in z, so every logit is a sum of one term for each branch, and a constant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from paraexport.findings.branches import BranchReport, BranchWorth, FirstBranches

if TYPE_CHECKING:
    from paraexport.model.reference import ParaFormer

MOST_FOR_SIMILARITY = 512
"""Similarity is measured on the outputs for at most this many images, evenly spaced."""
Logits = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class BranchAnswers:
    """What the branches are worth, and the logits of the first branches for all images."""

    report: BranchReport
    first: dict[int, Logits]
    """[N, classes] for each number of branches that was asked for."""


def measure(
    model: ParaFormer,
    batches: Iterable[NDArray[np.float32]],
    count: int,
    labels: NDArray[np.int64] | None,
    wanted: Collection[int] = (),
) -> BranchAnswers:
    """Run `model` on `count` images in batches [B, C, H, W].

    Args:
        labels: [count], or None.
        wanted: the numbers of first branches whose logits are needed.
    """
    meter = Meter(model, labels, wanted, step=-(-count // MOST_FOR_SIMILARITY))
    with torch.inference_mode():
        for batch in batches:
            meter.add(torch.from_numpy(batch))
    return BranchAnswers(meter.report(), {k: np.concatenate(parts) for k, parts in meter.first.items()})


def first_logits(
    model: ParaFormer, batches: Iterable[NDArray[np.float32]], wanted: Collection[int]
) -> dict[int, Logits]:
    """The logits of the first branches, [N, classes] for each number in `wanted`, on images in batches [B, C, H, W]."""
    parts: dict[int, list[Logits]] = {count: [] for count in wanted}
    with torch.inference_mode():
        for batch in batches:
            logits = model.prefix_logits(torch.from_numpy(batch))
            for count, own in parts.items():
                own.append(logits[count - 1].numpy())
    return {count: np.concatenate(own) for count, own in parts.items()}


class Meter:
    """Adds up what a report on branches needs, batch by batch."""

    def __init__(self, model: ParaFormer, labels: NDArray[np.int64] | None, wanted: Collection[int], step: int) -> None:
        branches = len(model.branches)
        self.model, self.labels, self.step = model, labels, step
        self.images = 0
        self.first: dict[int, list[Logits]] = {count: [] for count in wanted}
        self.terms = np.zeros(branches)
        """The sum over images of each branch's part of the winning logit above the mean logit."""
        self.same_first, self.right_first = np.zeros(branches, int), np.zeros(branches, int)
        self.same_without, self.right_without = np.zeros(branches, int), np.zeros(branches, int)
        self.pooled: list[NDArray[np.float32]] = []

    def add(self, images: Tensor) -> None:
        """Measure a batch [B, C, H, W]."""
        outputs = self.model.branch_outputs(images)
        total = self.model.sum(*outputs)
        answers = classes(self.model.classify(total))
        truth = None if self.labels is None else torch.from_numpy(self.labels[self.images : self.images + len(images)])
        running = torch.zeros(())
        for number, output in enumerate(outputs):
            running = output if number == 0 else running + output
            logits = self.model.classify(running)
            if number + 1 in self.first:
                self.first[number + 1].append(logits.numpy().copy())
            without = self.model.classify(total - output)
            for got, same, right in (
                (classes(logits), self.same_first, self.right_first),
                (classes(without), self.same_without, self.right_without),
            ):
                same[number] += int((got == answers).sum())
                right[number] += 0 if truth is None else int((got == truth).sum())
        self.terms += winning_terms(self.model, outputs, total)
        places = [place for place in range(len(images)) if (self.images + place) % self.step == 0]
        self.pooled.append(torch.stack([self.model.pool(output)[places] for output in outputs], 1).numpy())
        self.images += len(images)

    def report(self) -> BranchReport:
        branches = len(self.terms)
        labelled = self.labels is not None

        def share(count: int) -> float:
            return int(count) / self.images

        total = abs(float(self.terms.sum()))
        size = 4 * sum(parameter.numel() for parameter in self.model.branches[0].parameters())
        return BranchReport(
            images=self.images,
            labelled=labelled,
            accuracy=share(self.right_first[-1]) if labelled else None,
            branches=tuple(
                BranchWorth(
                    name=f"branches.{number}",
                    contribution=float(self.terms[number] / total) if total else 1 / branches,
                    agreement_without=share(self.same_without[number]),
                    accuracy_without=share(self.right_without[number]) if labelled else None,
                    multiply_adds=0,
                    weights_bytes=size,
                    precision_error=None,
                )
                for number in range(branches)
            ),
            similarity=similarity(np.concatenate(self.pooled)),
            first=tuple(
                FirstBranches(
                    branches=number + 1,
                    agreement=share(self.same_first[number]),
                    accuracy=share(self.right_first[number]) if labelled else None,
                )
                for number in range(branches)
            ),
            shared_multiply_adds=0,
        )


def classes(logits: Tensor) -> Tensor:
    """The class that each row of logits answers; with one output, whether it is positive."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


def winning_terms(model: ParaFormer, outputs: list[Tensor], total: Tensor) -> NDArray[np.float64]:
    """The sum over images of each branch's part of the winning logit minus the mean logit, [L].

    The norm divides the sum by one σ for each token (or each image, after pooling): norm(Σ z_l) = Σ γ (z_l − mean z_l)
    / σ + β. The terms of β and of the head's bias belong to no branch.
    """
    spec, head = model.spec, model.head.weight.double()
    before = spec.norm == "before"
    at_norm = [(output if before else model.pool(output)).double() for output in (*outputs, total)]
    whole = at_norm.pop()
    if isinstance(model.norm, nn.LayerNorm):
        deviation = (whole.var(-1, unbiased=False, keepdim=True) + spec.eps).sqrt()
        gamma = model.norm.weight.double()
        at_norm = [gamma * (part - part.mean(-1, keepdim=True)) / deviation for part in at_norm]
    parts = [(model.pool(part) if before else part) @ head.T for part in at_norm]
    answers = classes(model.classify(total))
    if spec.classes == 1:
        side = 2 * answers - 1  # towards the answer: up for yes, down for no
        return np.array([float((part[:, 0] * side).sum()) for part in parts])
    winners = answers[:, None]
    return np.array([float((part.gather(1, winners)[:, 0] - part.mean(1)).sum()) for part in parts])


def similarity(pooled: NDArray[np.float32]) -> tuple[tuple[float, ...], ...]:
    """Linear CKA (arXiv 1905.00414, equation 3) between branches, from their pooled outputs [n, L, D].

    CKA(X, Y) = ‖Yᵀ X‖² / (‖Xᵀ X‖ ‖Yᵀ Y‖), with the Frobenius norm, after each column was centred. Gram matrices [n, n]
    give the same: ‖Yᵀ X‖² = <X Xᵀ, Y Yᵀ>.
    """
    centred = pooled.astype(np.float64) - pooled.mean(0, dtype=np.float64)
    grams = [branch @ branch.T for branch in centred.transpose(1, 0, 2)]
    norms = [float(np.linalg.norm(gram)) for gram in grams]

    def cka(first: int, second: int) -> float:
        if first == second:
            return 1.0
        scale = norms[first] * norms[second]
        return float(np.sum(grams[first] * grams[second]) / scale) if scale else 0.0

    places = range(len(grams))
    return tuple(tuple(cka(max(row, column), min(row, column)) for column in places) for row in places)
