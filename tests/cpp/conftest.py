"""The built library, and bundles of every target and precision that runs on a CPU."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import paraexport
from paraexport.bundle import Bundle, read_bundle
from paraexport.checkpoint.native import save_checkpoint
from paraexport.model.spec import Preprocessing
from tests.conftest import DIGITS, LABELS, ROOT
from tests.cpp import building
from tests.cpp.library import Library
from tests.trace.test_trace import random_model, small_spec

TARGETS, PRECISIONS = ("onnxruntime", "openvino"), ("fp32", "fp16", "bf16", "int8")
CALIBRATION = ROOT / "calib/digits/calibration"


@pytest.fixture(scope="session")
def cpp_build() -> Path:
    """The folder in which the library, its unit tests and its examples are built."""
    building.require_tools()
    with building.alone(building.BUILD / "lock"):
        return building.build(building.BUILD)


@pytest.fixture(scope="session", autouse=True)
def active_environment() -> None:
    """The library looks for runtimes in the active Python environment: that of the tests, activated or not."""
    os.environ["VIRTUAL_ENV"] = sys.prefix
    os.environ.pop("CONDA_PREFIX", None)


@pytest.fixture(scope="session")
def library(cpp_build: Path) -> Library:
    return Library(cpp_build / "libparaexport.so")


@pytest.fixture(scope="session")
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Bundle]:
    """Builds the example for a target in a precision, once for all workers of pytest."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if hasattr(request.config, "workerinput") else base

    def build(target: str, precision: str) -> Bundle:
        output = folder / f"{target}-{precision}.bundle"
        with building.alone(output.with_suffix(".lock")):
            if output.exists():
                return read_bundle(output)
            return paraexport.build(DIGITS, output, target=target, precision=precision, calib=CALIBRATION)

    return build


@pytest.fixture(
    scope="session", params=[(target, precision) for target in TARGETS for precision in PRECISIONS], ids="-".join
)
def every_bundle(request: pytest.FixtureRequest, example: Callable[[str, str], Bundle]) -> Bundle:
    """The example, for one target in one precision."""
    return example(*request.param)


@pytest.fixture(scope="session", params=TARGETS)
def int8_bundle(request: pytest.FixtureRequest, example: Callable[[str, str], Bundle]) -> Bundle:
    """The example in int8, for one target."""
    return example(request.param, "int8")


@pytest.fixture(scope="session", params=TARGETS)
def float_bundle(request: pytest.FixtureRequest, example: Callable[[str, str], Bundle]) -> Bundle:
    """The example in float32, for one target."""
    return example(request.param, "fp32")


@pytest.fixture(scope="session")
def colour_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small model with random weights that takes colour images."""
    folder = tmp_path_factory.mktemp("colour")
    spec = dataclasses.replace(small_spec(), channels=3)
    images = Preprocessing(image_size=spec.image_size, channels=3, resize=spec.image_size)
    save_checkpoint(folder / "colour.pt", random_model(spec), images, LABELS)
    return paraexport.build(folder / "colour.pt", folder / "colour.bundle", max_batch=5)
