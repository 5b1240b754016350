"""The command line with an engine that was compiled ahead of time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import paraexport
from paraexport.bundle import Bundle, read_bundle, report
from paraexport.targets.compilation import EngineOptions
from paraexport.targets.profiles import Profile
from tests.cli.conftest import Run
from tests.targets.engines import require_ahead_of_time, tensorrt_rtx


@pytest.fixture(scope="module", autouse=True)
def _ahead_of_time() -> None:
    require_ahead_of_time()


@pytest.fixture(scope="module")
def made(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return paraexport.build(small, tmp_path_factory.mktemp("bundles") / "rtx.bundle", target="tensorrt-rtx")


@pytest.mark.parametrize("command", ["validate", "predict"])
def test_without_a_gpu_the_exit_code_is_3(command: str, made: Bundle, tmp_path: Path, run: Run) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 1, 8, 12), np.float32))
    files = [str(tmp_path / "images.npy")] if command == "predict" else []
    done = run(command, str(made.path), *files, "--json")
    assert done.code == 3
    reason = f"model.engine cannot run here: {tensorrt_rtx.availability().idle}"
    assert done.json["error"]["what"] == reason
    assert reason in done.err


def test_inspect_tells_of_the_engine_without_one(made: Bundle, run: Run) -> None:
    done = run("inspect", str(made.path))
    assert done.code == 0
    assert "model.engine" in done.out
    assert "tensorrt-rtx fp32" in done.out
    assert "by TensorRT-RTX" in done.out
    assert run("inspect", str(made.path), "--json").json["engine"]["runtime"] == "TensorRT-RTX"


def test_the_command_line_takes_the_options_and_says_that_nothing_ran(small: Path, tmp_path: Path, run: Run) -> None:
    output = tmp_path / "a.bundle"
    options = ["--compute-capability", "8.6", "--compute-capability", "8.9", "--profile", "1:1:1"]
    options += ["--profile", "2:4:64", "--engine", "cuda_graphs=false"]
    done = run("build", str(small), "-o", str(output), "--target", "tensorrt-rtx", *options)
    assert done.code == 0
    assert "for compute capability 8.6, 8.9" in done.out
    assert "the engine was compiled but not run" in done.err
    assert "next: copy the bundle to a machine with a GPU" in done.out
    engine = report.read(read_bundle(output).files).engine
    assert engine is not None
    assert engine.options == EngineOptions(
        compute_capabilities=("8.6", "8.9"), profiles=(Profile(1, 1, 1), Profile(2, 4, 64)), cuda_graphs=False
    )
    assert engine.profiles == engine.options.profiles
    assert "(batches min:opt:max): 1:1:1, 2:4:64" in done.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--compute-capability", "89"], "'89' is not a compute capability such as 8.9"),
        (["--compute-capability", "٨.٩"], "'٨.٩' is not a compute capability such as 8.9"),
        (["--profile", "1:8"], "'1:8' is not MIN:OPT:MAX, such as 2:8:64"),
        (["--profile", ""], "'' is not MIN:OPT:MAX, such as 2:8:64"),
        (["--profile", f"1:1:{'9' * 5000}"], "9' is not MIN:OPT:MAX, such as 2:8:64"),
        (["--profile", "2:8:64"], "no profile accepts a batch of 1 "),
        (["--engine", "profiles=8"], "profiles is not one of"),
        (["--engine", "tf32=maybe"], "tf32=maybe is not true or false"),
        (["--engine", "aux_streams=two"], "aux_streams=two is not a whole number"),
        (["--engine", "colour=red"], "colour is not one of"),
        (["--engine", "aux_streams=2"], "the target has no aux_streams"),
    ],
)
def test_a_wrong_option_is_refused(options: list[str], words: str, small: Path, tmp_path: Path, run: Run) -> None:
    done = run("build", str(small), "-o", str(tmp_path / "a.bundle"), "--target", "tensorrt-rtx", *options)
    assert done.code == 2
    assert words in " ".join(done.err.split())


def test_doctor_tells_that_it_builds_and_cannot_run(run: Run) -> None:
    told = {one["name"]: one for one in run("doctor", "--json").json["targets"]}
    assert told["tensorrt-rtx"]["idle"] == tensorrt_rtx.availability().idle
    assert "can build but not run" in run("doctor").out
