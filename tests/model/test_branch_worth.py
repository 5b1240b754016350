"""What a branch is worth, against definitions computed another way: by module surgery, gradients and formulas."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from paraexport.model.branch_worth import measure, similarity
from paraexport.model.reference import ParaFormer
from tests.trace.test_trace import random_model, small_spec

IMAGES = 23


def model_of(**changes: object) -> ParaFormer:
    return random_model(dataclasses.replace(small_spec(), branches=3, **changes))  # type: ignore[arg-type]


def images_of(model: ParaFormer) -> NDArray[np.float32]:
    spec = model.spec
    return np.random.default_rng(1).standard_normal((IMAGES, spec.channels, *spec.image_size)).astype(np.float32)


def batches(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [images[:10], images[10:20], images[20:]]


def with_branches(model: ParaFormer, numbers: list[int]) -> ParaFormer:
    smaller = copy.deepcopy(model)
    smaller.branches = nn.ModuleList(smaller.branches[number] for number in numbers)
    return smaller


VARIANTS = [{"norm": "before"}, {"norm": "after"}, {"norm": "none"}, {"pool": "mean", "norm": "after"}, {"classes": 1}]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_answers_without_a_branch_are_those_of_a_model_without_it(changes: dict[str, object]) -> None:
    model = model_of(**changes)
    images = images_of(model)
    labels = np.arange(IMAGES) % model.spec.classes if model.spec.classes > 1 else np.arange(IMAGES) % 2

    def answers(numbers: list[int]) -> NDArray[np.int64]:
        with torch.no_grad():
            logits = with_branches(model, numbers)(torch.from_numpy(images)).numpy()
        return (logits[:, 0] > 0).astype(np.int64) if logits.shape[1] == 1 else logits.argmax(1)

    whole = answers([0, 1, 2])
    report = measure(model, batches(images), IMAGES, labels, ()).report
    for number, branch in enumerate(report.branches):
        without = answers([other for other in range(3) if other != number])
        assert branch.agreement_without == pytest.approx((without == whole).mean())
        assert branch.accuracy_without == pytest.approx((without == labels).mean())
    for first in report.first:
        alone = answers([*range(first.branches)])
        assert first.agreement == pytest.approx((alone == whole).mean())
        assert first.accuracy == pytest.approx((alone == labels).mean())
    assert report.accuracy == pytest.approx((whole == labels).mean())


@pytest.mark.parametrize("changes", VARIANTS[:4], ids=str)
def test_contributions_are_the_parts_of_the_winning_logit(changes: dict[str, object]) -> None:
    """At a fixed scale of the norm, logits are linear in each branch, so the gradient gives the part."""
    model = model_of(**changes).double()
    images = torch.from_numpy(images_of(model)).double()
    with torch.no_grad():
        outputs = model.branch_outputs(images)
    total = sum(outputs[1:], outputs[0])
    scale = frozen_norm(model, total)
    parts = []
    for output in outputs:
        leaf = torch.zeros_like(total, requires_grad=True)
        logits = scale(leaf)
        winners = model.classify(total).argmax(1)
        margin = (logits[torch.arange(IMAGES), winners] - logits.mean(1)).sum()
        (gradient,) = torch.autograd.grad(margin, leaf)
        parts.append(float((gradient * output).sum()))
    report = measure(model.float(), batches(images_of(model)), IMAGES, None, ()).report
    shares = [branch.contribution for branch in report.branches]
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx([part / sum(parts) for part in parts], rel=1e-3, abs=1e-4)


def frozen_norm(model: ParaFormer, total: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """`classify` with the standard deviations of `total` in place of the input's own."""

    def norm(tokens: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        if not isinstance(model.norm, nn.LayerNorm):
            return tokens
        centred = tokens - tokens.mean(-1, keepdim=True)
        sigma = (whole.var(-1, unbiased=False, keepdim=True) + model.spec.eps).sqrt()
        return centred / sigma * model.norm.weight + model.norm.bias

    def classify(tokens: torch.Tensor) -> torch.Tensor:
        if model.spec.norm == "before":
            return model.head(model.pool(norm(tokens, total)))
        return model.head(norm(model.pool(tokens), model.pool(total)))

    return classify


def test_the_logits_of_the_first_branches_are_those_of_the_smaller_model_in_every_bit() -> None:
    model = model_of()
    images = images_of(model)
    first = measure(model, batches(images), IMAGES, None, (1, 2)).first
    assert sorted(first) == [1, 2]
    for count, logits in first.items():
        with torch.no_grad():
            smaller = with_branches(model, [*range(count)])
            expected = np.concatenate([smaller(torch.from_numpy(batch)).numpy() for batch in batches(images)])
        assert np.array_equal(logits, expected)


def test_similarity_is_linear_cka() -> None:
    """Against the definition with cross-covariances, in float64; 1 for rotated and scaled outputs, 0 for orthogonal."""
    generator = np.random.default_rng(0)
    first = generator.standard_normal((40, 6))
    rotation, _ = np.linalg.qr(generator.standard_normal((6, 6)))
    pooled = np.stack([first, 3 * first @ rotation + 1, generator.standard_normal((40, 6))], 1).astype(np.float32)
    got = np.array(similarity(pooled))
    centred = [branch - branch.mean(0) for branch in pooled.astype(np.float64).transpose(1, 0, 2)]
    for one, other in np.ndindex(3, 3):
        x, y = centred[one], centred[other]
        cka = np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
        assert got[one, other] == pytest.approx(cka, abs=1e-6)
    assert got[0, 1] == pytest.approx(1, abs=1e-5)
    assert got[0, 2] < 0.5


def test_similarity_of_constant_outputs_is_zero() -> None:
    assert similarity(np.ones((5, 2, 3), np.float32)) == ((1.0, 0.0), (0.0, 1.0))


def test_equal_branches_share_the_answer_equally() -> None:
    model = model_of()
    model.branches = nn.ModuleList([model.branches[0]] * 3)
    report = measure(model, batches(images_of(model)), IMAGES, None, ()).report
    # They pull away from the answers of this model, which the constant decides.
    assert [branch.contribution for branch in report.branches] == pytest.approx([-1 / 3] * 3)
    assert np.array(report.similarity) == pytest.approx(1.0)


@pytest.mark.parametrize("bias", [0.0, 3.0, -30.0])
def test_one_output_has_the_shares_of_two_classes(bias: float) -> None:
    """The logit z of one output answers as the logits -z/2 and z/2 of two classes."""
    one, two = model_of(classes=1), model_of(classes=2)
    weights = one.state_dict() | {"head.bias": torch.tensor([bias])}
    one.load_state_dict(weights)
    half = {name: torch.cat([-weights[name], weights[name]]) / 2 for name in ("head.weight", "head.bias")}
    two.load_state_dict(weights | half)
    images = images_of(one)
    shares = [
        [b.contribution for b in measure(m, batches(images), IMAGES, None, ()).report.branches] for m in (one, two)
    ]
    assert shares[0] == pytest.approx(shares[1], rel=1e-4)
    assert abs(sum(shares[0])) == pytest.approx(1)
