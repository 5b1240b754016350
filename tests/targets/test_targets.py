"""Every target runs the same bundle with the same answers, from one thread and from many."""

import functools
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import paraexport
from benchmarks.gpu.check import TARGETS as ON_GPUS
from paraexport import targets
from paraexport.bundle import Bundle
from paraexport.checks.golden import read
from paraexport.pipeline.bisect import bisect
from paraexport.pipeline.choices import PRECISIONS
from paraexport.pipeline.validate import validate

EVERY = [pytest.param(name, marks=pytest.mark.gpu if name in ON_GPUS else ()) for name in targets.TARGETS]


def workload(images: NDArray[np.float32], threads: int | None) -> targets.Workload:
    return targets.Workload(image=images.shape[1:], max_batch=7, threads=threads)


def skip_where_missing(name: str) -> None:
    here = targets.get(name).availability()
    if here.version is None:
        pytest.skip(f"{here.missing}; {here.remedy}")
    if here.idle:
        pytest.skip(f"{name} builds here and cannot run: {here.idle}")


@pytest.fixture(scope="module")
def built(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """The small model's bundle for a target that can run here; the test is skipped where it cannot."""

    @functools.cache
    def build(name: str) -> Bundle:
        return paraexport.build(small, tmp_path_factory.mktemp(name) / "a.bundle", target=name, max_batch=7)

    def built(name: str) -> Bundle:
        skip_where_missing(name)
        return build(name)

    return built


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("threads", [None, 1])
def test_a_session_answers_as_pytorch_did(name: str, threads: int | None, built: Callable[[str], Bundle]) -> None:
    bundle = built(name)
    images, expected = read(bundle.files)
    session = targets.get(name).open_session(bundle.files, workload(images, threads))
    for batch in (1, 2, 7):
        got = session(images[:batch])
        assert got.dtype == np.float32
        assert np.abs(got - expected[:batch]).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", EVERY)
def test_many_threads_share_a_session_and_an_answer_stays_as_it_is(name: str, built: Callable[[str], Bundle]) -> None:
    bundle = built(name)
    images, expected = read(bundle.files)
    session = targets.get(name).open_session(bundle.files, workload(images, 1))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: session(images[number % len(images)][None]), range(200)))
    for number, answer in enumerate(answers):
        assert np.abs(answer[0] - expected[number % len(images)]).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", EVERY)
def test_a_build_for_a_target_is_checked_on_it(name: str, small: Path, tmp_path: Path) -> None:
    skip_where_missing(name)
    bundle = paraexport.build(small, tmp_path / "a.bundle", target=name)
    assert bundle.manifest.target == name
    assert [check.passed for check in bundle.manifest.checks] == [True, True, True, None]
    shutil.move(bundle.path, tmp_path / "b.bundle")
    content = torch.load(small, weights_only=True)
    model = paraexport.ParaFormer(paraexport.Spec(**content["spec"])).eval()
    model.load_state_dict(content["state_dict"])
    images = torch.randn(3, 1, 8, 12)
    with torch.no_grad():
        expected = model(images).numpy()
    got = paraexport.load(tmp_path / "b.bundle")(images.numpy())
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", EVERY)
def test_every_precision_is_checked_where_it_runs_and_again_from_the_bundle(
    name: str, precision: str, small: Path, tmp_path: Path
) -> None:
    skip_where_missing(name)
    if reason := targets.get(name).dialect.refuses.get(precision):
        pytest.skip(f"{name} refuses {precision}: {reason}")
    np.save(tmp_path / "images.npy", np.random.default_rng(0).standard_normal((20, 1, 8, 12), np.float32))
    calib = tmp_path / "images.npy" if precision == "int8" else None
    bundle = paraexport.build(small, tmp_path / "a.bundle", target=name, precision=precision, calib=calib, max_batch=5)
    assert {check.name for check in bundle.manifest.checks if not check.passed} <= {"accuracy_drop", "not_int8"}
    assert {check.name: check.passed for check in validate(bundle.path)}["parity"]
    assert bisect(bundle.path).parts
