"""Sessions on a GPU agree with the same graph in ONNX Runtime: profiles, CUDA graphs, threads."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from paraexport import targets
from paraexport.errors import EngineError
from paraexport.targets.compilation import EngineOptions
from paraexport.targets.folder import Folder
from paraexport.targets.profiles import Profile
from paraexport.targets.trt.flavour import RTX, TENSORRT, Flavour
from paraexport.targets.trt.loaded import GRAPHS_OFF
from paraexport.targets.trt.session import EngineSession
from paraexport.targets.trt.target import TensorRT
from paraexport.targets.trt.worker import MOST_GRAPHS
from paraexport.timing.clock import silent
from tests.targets.engines import SMALL, write_graph

pytestmark = pytest.mark.gpu

PROFILES = (Profile(1, 1, 1), Profile(2, 4, 8), Profile(9, 16, 16))
LIMIT = 1e-5
WORKLOAD = targets.Workload(image=(1, 8, 8), max_batch=16, threads=1)


@pytest.fixture(params=[TENSORRT, RTX], ids=lambda flavour: flavour.name)
def flavour(request: pytest.FixtureRequest) -> Flavour:
    here = request.param.availability()
    if here.version is None or here.idle:
        pytest.skip(f"{request.param.title} cannot run here: {here.missing or here.idle}")
    return request.param


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_graph(SMALL, "stacked", "fp32", tmp_path / "graph")
    return tmp_path / "graph"


def opened(flavour: Flavour, folder: Path, options: EngineOptions) -> EngineSession:
    target = TensorRT(flavour)
    target.compile_model(folder, 16, dataclasses.replace(options, profiles=PROFILES), silent)
    return target.open_session(Folder(folder), WORKLOAD)


def check(session: EngineSession, folder: Path, batches: list[int]) -> None:
    """Every batch has different images, so that a repeated recording cannot pass."""
    reference = targets.require("onnxruntime").open_session(Folder(folder), WORKLOAD)
    for seed, batch in enumerate(batches):
        images = np.random.default_rng(seed).standard_normal((batch, 1, 8, 8), np.float32)
        expected: NDArray[np.float32] = reference(images)
        assert np.abs(session(images) - expected).max() <= LIMIT * np.abs(expected).max(), (seed, batch)


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_every_batch_is_answered_in_every_profile_and_again(flavour: Flavour, folder: Path, cuda_graphs: bool) -> None:
    session = opened(flavour, folder, EngineOptions(cuda_graphs=cuda_graphs))
    assert MOST_GRAPHS < 16
    check(session, folder, [*range(1, 17), *range(16, 0, -1), 1, 1, 16])
    assert session.without_graphs == ("" if cuda_graphs else GRAPHS_OFF)


def test_a_batch_that_no_profile_takes_is_refused_before_its_images_are_copied(flavour: Flavour, folder: Path) -> None:
    session = opened(flavour, folder, EngineOptions())
    for batch in (0, 17):
        with pytest.raises(EngineError, match="no profile accepts the batch"):
            session(np.zeros((batch, 1, 8, 8), np.float32))
    check(session, folder, [16])


def test_a_session_goes_without_garbage_collection(flavour: Flavour, folder: Path) -> None:
    """Else its memory would stay, and be freed in the middle of another session's recording, which ends that."""
    session = opened(flavour, folder, EngineOptions())
    check(session, folder, [1, 3])
    loaded = weakref.ref(session.loaded)
    gc.disable()
    try:
        del session
        assert loaded() is None
    finally:
        gc.enable()


def test_threads_record_and_run_side_by_side(flavour: Flavour, folder: Path) -> None:
    session = opened(flavour, folder, EngineOptions())
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(check, session, folder, [1, 3, 16, 3, 1]) for _ in range(8)]:
            done.result()
