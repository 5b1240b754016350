"""Checkpoints with outliers that do nothing: int8 as it is fails on them, folding and equalisation take them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.outliers import gamma_outliers, value_outliers
from paraexport import targets
from paraexport.bundle import MODEL
from paraexport.findings.graphs import Lowering
from paraexport.pipeline import candidates, images, reading
from paraexport.pipeline.options import Options
from paraexport.targets.folder import Folder
from paraexport.trace.trace import trace
from tests.conftest import ROOT

DIGITS: dict[str, Any] = {"data": ROOT / "calib/digits/test", "calib": ROOT / "calib/digits/calibration"}
NOISY: dict[str, Any] = {"data": ROOT / "calib/noisy_digits.npz", "calib": ROOT / "calib/noisy_digits_calibration.npy"}


class Changed:
    """An example with other weights, traced once, and PyTorch's answers to the test images."""

    def __init__(
        self, name: str, change: Callable[[Any], dict[str, Tensor]], paths: dict[str, Any], folder: Path
    ) -> None:
        content = torch.load(ROOT / f"models/{name}.pt", weights_only=True)
        content["state_dict"] = change(content["state_dict"])
        torch.save(content, folder / "changed.pt")
        self.folder, self.paths = folder, paths
        options = Options(precision="int8", **paths)
        loaded = reading.load(folder / "changed.pt", options.reading)
        self.samples = images.open_images(options.images, loaded.preprocessing, loaded.labels)
        self.calibration = images.open_calibration(options.images, loaded.preprocessing, self.samples)
        self.logits = images.pytorch_answers(loaded, self.samples, 64).logits
        (folder / "traced").mkdir()
        self.traced = trace(loaded.module, loaded.classifier, folder / "traced" / MODEL).path
        self.made = 0

    def in_int8(self, **options: Any) -> Done:
        self.made += 1
        work = self.folder / str(self.made)
        work.mkdir()
        images = candidates.Images(self.calibration, self.samples, self.logits)
        asked = Options(precision="int8", **self.paths, **options)
        (draft,) = candidates.write(self.traced, asked, ("onnxruntime",), work, images)
        workload = targets.Workload(image=self.samples.pick(1).shape[1:], max_batch=64, precision="int8", threads=2)
        session = targets.get("onnxruntime").open_session(Folder(draft.folder), workload)
        answers = np.concatenate([session(batch) for batch in self.samples.batches(64)])
        assert draft.lowering is not None
        assert self.samples.labels is not None
        return Done(self.top1(self.logits), self.top1(answers), draft.lowering)

    def top1(self, logits: NDArray[np.float32]) -> float:
        return 100 * float(np.mean(logits.argmax(1) == self.samples.labels))


@dataclass(frozen=True)
class Done:
    before: float
    """PyTorch's top-1, in %."""
    after: float
    lowering: Lowering

    @property
    def lost(self) -> float:
        return self.before - self.after


@pytest.fixture(scope="module")
def gamma(tmp_path_factory: pytest.TempPathFactory) -> Changed:
    """γ × 300 on three channels of every norm."""
    return Changed("prenorm_digits", gamma_outliers, DIGITS, tmp_path_factory.mktemp("gamma"))


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Changed:
    """Value channels × 300 in branches 1 and 3 of eight."""
    return Changed("noisy_digits", value_outliers, NOISY, tmp_path_factory.mktemp("values"))


def test_gamma_outliers_ruin_the_traced_graph(gamma: Changed) -> None:
    assert gamma.in_int8(layout="branches", equalise=False).after < 20


@pytest.mark.parametrize("layout", ["folded", "stacked"])
def test_gamma_outliers_are_folded_away(gamma: Changed, layout: str) -> None:
    assert gamma.in_int8(layout=layout).lost <= 0.2


def test_value_outliers_cost_accuracy_and_are_equalised_away(values: Changed) -> None:
    assert values.in_int8(equalise=False).lost > 2
    assert values.in_int8().lost <= 0.1


def test_value_outliers_are_found_by_the_plan(values: Changed) -> None:
    done = values.in_int8(equalise=False, max_drop=0.2)
    assert done.lost <= 0.2
    assert {part.partition("/")[0] for part in done.lowering.kept} == {"branches.1", "branches.3"}
    assert "this is the smallest set that loses at most 0.2 points of top-1" in done.lowering.reason
    branches = {one.part: one.error for one in done.lowering.errors if "/" not in one.part}
    assert sorted(branches, key=lambda part: branches[part])[-2:] in (
        ["branches.1", "branches.3"],
        ["branches.3", "branches.1"],
    )


def test_the_report_tells_what_each_remedy_is_worth(gamma: Changed, values: Changed) -> None:
    nothing, folded, equalised = (one.error for one in gamma.in_int8(layout="folded").lowering.effects)
    assert nothing > 5 * folded
    assert equalised < 2 * folded
    nothing, folded, equalised = (one.error for one in values.in_int8(layout="folded").lowering.effects)
    assert min(nothing, folded) > 3 * equalised
