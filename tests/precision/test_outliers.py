"""The outlier fixtures: the function stays the same, and the outliers are in the documented places."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.outliers import gamma_outliers, layers, spread, value_outliers
from paraexport.images.dataset import open_samples
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Preprocessing, Spec
from paraexport.model.tap_names import tap_name

ROOT = Path(__file__).parents[2]
PRENORM, NORMALIZED = "prenorm_digits", "noisy_digits"
IMAGES = 24


class Trained:
    """A committed checkpoint, its images, and float64 models with any weights of its shape."""

    def __init__(self, name: str) -> None:
        content = torch.load(ROOT / f"models/{name}.pt", weights_only=True)
        self.spec = Spec(**content["spec"])
        self.state: dict[str, Tensor] = content["state_dict"]
        samples = open_samples(
            ROOT / "calib/digits/calibration", Preprocessing(**content["preprocessing"]), (), need_labels=False
        )
        self.images = torch.from_numpy(samples.pick(IMAGES)).double()

    def model(self, state: dict[str, Tensor]) -> ParaFormer:
        model = ParaFormer(self.spec).eval().double()
        model.load_state_dict(state)
        return model.requires_grad_(requires_grad=False)

    def difference(self, changed: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> float:
        """max |Δ logit| / max |logit|, with the weights themselves in float64."""
        exact = {name: tensor.double() for name, tensor in self.state.items()}
        before = self.model(exact)(self.images)
        return float((self.model(changed(exact))(self.images) - before).abs().max() / before.abs().max())


@pytest.fixture(scope="module")
def prenorm() -> Trained:
    return Trained(PRENORM)


@pytest.fixture(scope="module")
def normalized() -> Trained:
    return Trained(NORMALIZED)


@pytest.mark.parametrize("factor", [300.0, 1e4])
def test_gamma_outliers_leave_the_function_alone(prenorm: Trained, factor: float) -> None:
    assert prenorm.difference(lambda state: gamma_outliers(state, factor)) <= 1e-12


@pytest.mark.parametrize("factor", [300.0, 1e4])
def test_value_outliers_leave_the_function_alone(prenorm: Trained, normalized: Trained, factor: float) -> None:
    assert prenorm.difference(lambda state: value_outliers(state, factor=factor)) <= 1e-12
    assert normalized.difference(lambda state: value_outliers(state, factor=factor)) <= 1e-12  # without biases


def test_gamma_outliers_are_what_every_linear_after_a_norm_reads(prenorm: Trained) -> None:
    before, after = prenorm.model(prenorm.state), prenorm.model(gamma_outliers(prenorm.state))
    plain, changed = before.taps(prenorm.images), after.taps(prenorm.images)
    chosen = spread(prenorm.spec.dim, 3)
    norms = [name for name in plain if name.endswith(("attention_norm", "feed_forward_norm"))]
    assert len(norms) == 2 * prenorm.spec.branches * prenorm.spec.depth
    for name in norms:
        ratio = (changed[name].abs().amax((0, 1)) / plain[name].abs().amax((0, 1))).numpy()
        expected = np.ones(prenorm.spec.dim)
        expected[chosen] = 300
        np.testing.assert_allclose(ratio, expected, rtol=1e-6)
        largest = changed[name].abs().amax((0, 1))
        others = np.delete(largest.numpy(), chosen)
        assert largest[chosen].max() > 50 * others.max()


def test_value_outliers_are_in_the_values_of_their_branches_alone(normalized: Trained) -> None:
    changed = value_outliers(normalized.state, branches=(1, 3), channels=2)
    plain, taps = normalized.model(normalized.state), normalized.model(changed)
    before, after = plain.taps(normalized.images), taps.taps(normalized.images)
    inner = normalized.spec.heads * normalized.spec.head_dim
    for layer, branch in layers(normalized.state):
        name = tap_name(f"{layer}.attention.value")
        ratio = (after[name].abs().amax((0, 1)) / before[name].abs().amax((0, 1))).numpy()
        expected = np.ones(inner)
        if branch in (1, 3):
            expected[spread(inner, 2)] = 300
        np.testing.assert_allclose(ratio, expected, rtol=1e-6)
    untouched = [name for name in changed if not name.startswith(("branches.1.", "branches.3."))]
    assert all(torch.equal(changed[name], normalized.state[name]) for name in untouched)


def test_the_given_state_is_left_as_it_was(prenorm: Trained) -> None:
    before = {name: tensor.clone() for name, tensor in prenorm.state.items()}
    gamma_outliers(prenorm.state)
    value_outliers(prenorm.state)
    assert all(torch.equal(before[name], prenorm.state[name]) for name in before)


def test_gamma_outliers_need_a_skip_past_the_norm(normalized: Trained) -> None:
    assert normalized.difference(gamma_outliers) > 1  # there the norm's output is the skip as well


def test_more_channels_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="9 channels of 8"):
        spread(8, 9)
