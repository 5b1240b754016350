"""AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer find nothing, and the fuzzers run for a moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from paraexport.bundle import Bundle
from tests.cpp import building

QUICK = ("-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1", "-DPARAEXPORT_EXAMPLES=OFF")
FUZZERS = ("manifest", "safetensors", "external_data", "pixels", "bundle", "image_file")
SECONDS = 2
NO_LEAKS = {"LSAN_OPTIONS": f"suppressions={building.SOURCE}/tests/lsan.supp:print_suppressions=0"}


@pytest.fixture(scope="session")
def checked_build(cpp_build: Path) -> Path:
    """Everything, with AddressSanitizer, UndefinedBehaviorSanitizer and the fuzzers."""
    folder = building.BUILD.with_name("tests-asan")
    with building.alone(folder / "lock"):
        return building.build(folder, *QUICK, "-DPARAEXPORT_SANITIZE=address,undefined", "-DPARAEXPORT_FUZZ=ON")


@pytest.fixture(scope="session")
def threads_build(cpp_build: Path) -> Path:
    """The stress program, with ThreadSanitizer."""
    folder = building.BUILD.with_name("tests-tsan")
    options = (*QUICK, "-DPARAEXPORT_SANITIZE=thread", "-DPARAEXPORT_IMAGES=OFF")
    with building.alone(folder / "lock"):
        return building.build(folder, *options, target="paraexport_stress")


def test_the_unit_tests_have_no_findings(checked_build: Path) -> None:
    building.must(building.run(checked_build / "tests" / "units"))


def test_a_bundle_in_use_has_no_findings(checked_build: Path, int8_bundle: Bundle) -> None:
    # OpenVINO's own threads confuse the search for leaks.
    leaks = {"ASAN_OPTIONS": "detect_leaks=0"} if int8_bundle.manifest.target == "openvino" else NO_LEAKS
    output = building.must(building.run(checked_build / "tests" / "stress", int8_bundle.path, 8, 5, env=leaks))
    assert output.strip() == "all as expected"


def test_threads_have_no_findings(threads_build: Path, int8_bundle: Bundle) -> None:
    options = {"TSAN_OPTIONS": "ignore_noninstrumented_modules=1"}
    output = building.must(building.run(threads_build / "tests" / "stress", int8_bundle.path, 16, 10, env=options))
    assert output.strip() == "all as expected"


@pytest.mark.parametrize("name", FUZZERS)
def test_fuzzers_find_nothing(name: str, checked_build: Path, tmp_path: Path) -> None:
    program = checked_build / "fuzz" / f"fuzz_{name}"
    if not program.exists():
        pytest.skip("needs libpng and libjpeg: apt install libpng-dev libjpeg-dev")
    corpus = building.SOURCE / "fuzz" / "corpus" / name
    assert [*corpus.iterdir()]
    output = building.must(building.run(program, f"-seconds={SECONDS}", f"-crash={tmp_path / 'crash'}", corpus))
    assert "no crash" in output
