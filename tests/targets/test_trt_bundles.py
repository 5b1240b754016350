"""Bundles with an engine that was compiled ahead of time: their checks, and the error of opening them without a GPU."""

from __future__ import annotations

import html
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import paraexport
from paraexport.bundle import Bundle, report
from paraexport.errors import BundleError, CheckFailed, EngineError, MissingError
from paraexport.pipeline import candidate_times
from paraexport.pipeline.choices import AUTO
from paraexport.pipeline.options import Options
from paraexport.pipeline.validate import validate
from paraexport.targets import Availability
from paraexport.targets.compilation import EngineOptions
from paraexport.targets.ort.target import OnnxRuntime
from paraexport.targets.profiles import Profile
from tests.pipeline.test_build import SIZE, WRONG
from tests.targets.engines import require_ahead_of_time, tensorrt_rtx


@pytest.fixture(scope="module", autouse=True)
def _ahead_of_time() -> None:
    require_ahead_of_time()


@pytest.fixture(scope="module")
def bundle(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    output = tmp_path_factory.mktemp("bundles") / "rtx.bundle"
    images = np.random.default_rng(0).standard_normal((20, 1, 8, 12), np.float32)
    np.save(output.parent / "images.npy", images)
    return paraexport.build(
        small, output, target="tensorrt-rtx", layout=AUTO, precision="int8", calib=output.parent / "images.npy",
        max_batch=5, engine=EngineOptions(compute_capabilities=("8.9",)),
    )  # fmt: skip


def test_what_cannot_run_is_not_run_and_the_graph_is_checked(bundle: Bundle) -> None:
    checks = {check.name: check for check in bundle.manifest.checks}
    of_engine = [checks[name] for name in ("parity", "batches", "cosine", "disagreement", "not_int8")]
    reason = tensorrt_rtx.availability().idle
    assert all((one.passed, one.value, one.samples) == (None, None, 0) for one in of_engine)
    assert all(one.reason == f"not run: {reason}" for one in of_engine)
    of_graph = [checks[f"graph_{name}"] for name in ("parity", "batches", "cosine", "disagreement")]
    assert all(one.passed and one.samples >= 15 for one in of_graph)
    assert checks["graph_parity"].value != 0
    assert (checks["plan_not_int8"].passed, checks["plan_not_int8"].value) == (True, 0)


def test_the_engine_is_in_the_bundle_and_the_report_tells_of_it(bundle: Bundle) -> None:
    assert {"model.onnx", "model.engine", "engine.json"} <= bundle.manifest.files.keys()
    engine = report.read(bundle.files).engine
    assert engine is not None
    assert engine.size_bytes == bundle.manifest.files["model.engine"].size_bytes
    assert (engine.built_for, engine.built_on, engine.profiles) == (("8.9",), "", (Profile(1, 5, 5),))
    assert engine.inspection is None
    page = (bundle.path / "report.html").read_text(encoding="utf-8")
    assert f"layers unknown: {html.escape(engine.not_inspected)}" in page
    assert "top-1: " not in page


def test_auto_takes_the_layout_of_the_target_where_nothing_can_be_timed(bundle: Bundle) -> None:
    assert bundle.manifest.layout == "stacked"
    (assumption,) = (one for one in bundle.manifest.assumptions if one.field == "layout")
    assert "nothing can be timed here" in assumption.reason


def test_auto_leaves_out_what_cannot_run() -> None:
    assert "tensorrt-rtx" not in candidate_times.installed_targets("int8")


def test_an_unchanged_build_is_reused_and_another_engine_is_not(small: Path, bundle: Bundle) -> None:
    images = bundle.path.parent / "images.npy"
    first = Options(target="tensorrt-rtx", calib=images, precision="int8").settings()
    other = Options(
        target="tensorrt-rtx", calib=images, precision="int8", engine=EngineOptions(profiles=(Profile(1, 2, 64),))
    ).settings()
    assert first != other
    assert first["device"] == [tensorrt_rtx.here()]


@pytest.mark.parametrize("do", [paraexport.load, validate])
def test_opening_it_says_that_there_is_no_gpu(do: Callable[[Path], object], bundle: Bundle) -> None:
    with pytest.raises(MissingError, match=f"model.engine cannot run here: {tensorrt_rtx.availability().idle}"):
        do(bundle.path)


def test_a_flipped_byte_is_found_before_tensorrt_reads_the_engine(bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.path, tmp_path / "a.bundle")
    engine = tmp_path / "a.bundle/model.engine"
    content = bytearray(engine.read_bytes())
    content[len(content) // 2] ^= 1
    engine.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.engine: a file of the bundle was changed"):
        paraexport.load(tmp_path / "a.bundle")


@pytest.mark.parametrize("wrong", ["9.0", "8.90", "99", ""])
def test_a_gpu_that_it_cannot_compile_for_is_refused_before_any_work(wrong: str, small: Path, tmp_path: Path) -> None:
    done: list[str] = []
    with pytest.raises(EngineError, match=rf"--compute-capability: .*expected some of .*8\.9.*, got {wrong}\)"):
        paraexport.build(
            small, tmp_path / "a.bundle", target="tensorrt-rtx", progress=done.append,
            engine=EngineOptions(compute_capabilities=("8.9", wrong)),
        )  # fmt: skip
    assert done == []


def test_a_wrong_graph_leaves_no_bundle(small: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    output = tmp_path / "a.bundle"
    with pytest.raises(CheckFailed, match=r"graph_parity is .*branches\.1/layers\.0") as caught:
        paraexport.build(small, output, target="tensorrt-rtx", module=f"{tmp_path / 'wrong.py'}:make", spec=SIZE)
    assert not output.exists()
    checks = {check.name: check for check in caught.value.checks}
    assert checks["parity"].passed is None
    assert checks["graph_parity"].passed is False


def test_without_onnx_runtime_nothing_could_be_checked(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Availability(None, "onnxruntime cannot be imported: it is gone", "pip install it")
    monkeypatch.setattr(OnnxRuntime, "availability", lambda self: gone)
    with pytest.raises(MissingError, match=r"nothing can be checked here.*it is gone; pip install it"):
        paraexport.build(small, tmp_path / "a.bundle", target="tensorrt-rtx")
    assert not (tmp_path / "a.bundle").exists()


def test_tensorrt_itself_needs_a_gpu_or_is_not_here(small: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="target tensorrt: "):
        paraexport.build(small, tmp_path / "a.bundle", target="tensorrt")
