"""Checkpoint file to engine: ONNX Runtime's float32 logits are PyTorch's, for all models and naming conventions.

A few drawn models by default. `pytest -m sweep` takes every convention × residual × activation × pool, other fields
drawn, through every layout, which takes about half an hour, and prints the largest difference.
"""

from __future__ import annotations

import itertools
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from paraexport import targets
from paraexport.checkpoint.load import load_checkpoint
from paraexport.checks.golden import answers
from paraexport.rewrite import LAYOUTS, rewrite
from paraexport.targets.folder import Folder
from paraexport.trace.trace import trace
from tests.checkpoint.cases import Case, cases, options, pick_case
from tests.checkpoint.writers import CONVENTIONS, random_weights, saved, state_dict

LIMIT = 1e-5
"""max |Δ logit| / max |logit|, as in docs/bundle.md."""


def worst(case: Case) -> float:
    """max |Δ logit| / max |logit| over all layouts and batches of 1, 2 and 7, from a checkpoint file on."""
    spec = case.spec
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = state_dict(case.names.write(random_weights(spec, case.seed), spec, case.numbering))
        loaded = load_checkpoint(saved(folder / "model.pt", written), overrides=options(spec))
        assert loaded.spec == spec
        pytorch = answers(loaded.module)
        shapes = [(batch, spec.channels, *spec.image_size) for batch in (1, 2, 7)]
        batches = [np.random.default_rng(case.seed).standard_normal(shape).astype(np.float32) for shape in shapes]
        expected = [pytorch(images) for images in batches]
        assert [logits.shape for logits in expected] == [(len(images), spec.classes) for images in batches]
        (folder / "traced").mkdir()
        trace(loaded.module, loaded.classifier, folder / "traced" / "model.onnx")
        difference = 0.0
        for layout in LAYOUTS:
            rewrite(folder / "traced" / "model.onnx", layout, folder / layout)
            workload = targets.Workload(image=shapes[0][1:], max_batch=7, threads=1)
            engine = targets.get("onnxruntime").open_session(Folder(folder / layout), workload)
            for images, logits in zip(batches, expected, strict=True):
                difference = max(difference, float(np.abs(engine(images) - logits).max()))
    return difference / max(float(np.abs(logits).max()) for logits in expected)


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases().filter(lambda case: case.spec.branches * case.spec.depth <= 6))
def test_any_model_under_any_names_runs_as_in_pytorch(case: Case) -> None:
    assert worst(case) <= LIMIT


def test_sixteen_branches_run_as_in_pytorch() -> None:
    case = pick_case(random.Random(0).choice, convention="released", branches=16, depth=1, residual="normalized")
    assert worst(case) <= LIMIT


COMBINATIONS = list(
    itertools.product(
        CONVENTIONS, ("input", "normalized", "post"), ("gelu", "gelu_tanh", "relu"), ("cls", "mean", "patch_mean")
    )
)


@pytest.mark.sweep
def test_every_combination_runs_as_in_pytorch(capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    found: dict[str, float] = {}
    for number, (convention, residual, activation, pool) in enumerate(COMBINATIONS):
        case = pick_case(
            random.Random(number).choice,
            convention=convention,
            residual=residual,
            activation=activation,
            pool=pool,
            branches=(1, 2, 5, 16)[number % 4],
            depth=(1, 2, 3)[number // 4 % 3],
        )
        found[str(case)] = worst(case)
    last = max(found, key=lambda case: found[case])
    with capsys.disabled():
        values = np.array(list(found.values()))
        print(f"\n{len(found)} models: largest {values.max():.2g}, median {np.median(values):.2g}; largest in {last}")
    assert found[last] <= LIMIT
