"""TensorRT from C++, as far as it goes without a GPU. Give its headers in PARAEXPORT_TENSORRT_RTX_INCLUDE."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import paraexport
from paraexport.targets.trt.device import find_device
from tests.conftest import DIGITS
from tests.cpp import building
from tests.cpp.library import MISSING, FailedError, Library

VARIABLE = "PARAEXPORT_TENSORRT_RTX_INCLUDE"


@pytest.fixture(scope="module")
def headers(cpp_build: Path) -> str:
    folder = os.environ.get(VARIABLE, "")
    if not Path(folder, "NvInfer.h").is_file():
        pytest.skip(f"needs NvInfer.h of TensorRT-RTX: set {VARIABLE} to the folder `include` of its SDK")
    return folder


@pytest.fixture(scope="module")
def rtx_build(headers: str) -> Path:
    folder = building.BUILD.with_name("tests-tensorrt")
    options = (f"-D{VARIABLE}={headers}", f"-DPARAEXPORT_TENSORRT_INCLUDE={headers}")
    with building.alone(folder / "lock"):
        return building.build(folder, *options, "-DPARAEXPORT_IMAGES=OFF", "-DPARAEXPORT_EXAMPLES=OFF")


@pytest.fixture(scope="module")
def rtx_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorrt_rtx", reason="needs pip install tensorrt-rtx")
    return paraexport.build(DIGITS, tmp_path_factory.mktemp("rtx") / "a.bundle", target="tensorrt-rtx").path


def test_an_engine_is_compiled_without_a_gpu(rtx_build: Path, rtx_bundle: Path) -> None:
    output = building.must(building.run(rtx_build / "tests" / "build_engine", rtx_bundle / "model.onnx", 8))
    assert int(output.split()[0]) > 100_000


def test_the_units_pass_with_tensorrt(rtx_build: Path) -> None:
    building.must(building.run(rtx_build / "tests" / "units"))


def test_without_a_gpu_the_missing_driver_is_named(rtx_build: Path, rtx_bundle: Path) -> None:
    if not isinstance(find_device(), str):
        pytest.skip("this machine has a GPU")
    library = Library(rtx_build / "libparaexport.so")
    library.verify(rtx_bundle)
    with pytest.raises(FailedError, match="the NVIDIA driver") as caught:
        library.open(rtx_bundle)
    assert caught.value.status == MISSING


def test_a_library_without_headers_names_the_option(library: Library, rtx_bundle: Path) -> None:
    with pytest.raises(
        FailedError, match=rf"does not run the target; configure the library with -D{VARIABLE}"
    ) as caught:
        library.open(rtx_bundle)
    assert caught.value.status == MISSING


@pytest.mark.gpu
def test_logits_are_the_bits_of_python(rtx_build: Path, rtx_bundle: Path) -> None:
    import numpy as np

    if isinstance(reason := find_device(), str):
        pytest.skip(reason)
    images = np.random.default_rng(0).standard_normal((7, 1, 32, 32), np.float32)
    with Library(rtx_build / "libparaexport.so").open(rtx_bundle) as ours:
        np.testing.assert_array_equal(ours(images), paraexport.load(rtx_bundle)(images))
