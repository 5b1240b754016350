"""What programs of others do: install the library, find it, link it, and run the examples."""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

import paraexport
from paraexport.bundle import Bundle
from tests.conftest import TEST_IMAGES
from tests.cpp import building

CONSUMER = Path(__file__).parent / "consumer"
EXAMPLES = building.SOURCE / "examples"


@pytest.fixture(scope="session")
def prefix(cpp_build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, installed and then moved, as an archive would be."""
    folder = tmp_path_factory.mktemp("install")
    building.must(building.run("cmake", "--install", cpp_build, "--prefix", folder / "first"))
    return (folder / "first").rename(folder / "moved")


def require_works(program: Path, bundle: Bundle, env: dict[str, str] | None = None) -> None:
    classes, difference = building.must(building.run(program, bundle.path, env=env)).split()
    assert int(classes) == len(bundle.manifest.labels)
    assert float(difference) < 1e-5


def test_a_program_finds_the_installed_package(prefix: Path, small_bundle: Bundle, tmp_path: Path) -> None:
    building.build(tmp_path, f"-DCMAKE_PREFIX_PATH={prefix}", source=CONSUMER)
    require_works(tmp_path / "consumer", small_bundle)
    assert building.must(building.run(tmp_path / "consumer_c", small_bundle.path)).strip() == "0.1.0"


def test_a_program_finds_the_library_with_pkg_config(prefix: Path, small_bundle: Bundle, tmp_path: Path) -> None:
    if shutil.which("pkg-config") is None:
        pytest.skip("needs pkg-config: apt install pkg-config")
    environment = {"PKG_CONFIG_PATH": str(next(prefix.rglob("pkgconfig")))}
    flags = building.must(building.run("pkg-config", "--cflags", "--libs", "paraexport", env=environment)).split()
    source, program = CONSUMER / "consumer.cpp", tmp_path / "consumer"
    building.must(building.run("c++", "-std=c++17", source, "-o", program, *flags))
    library = next(prefix.rglob("libparaexport.so")).parent
    require_works(program, small_bundle, {"LD_LIBRARY_PATH": str(library)})


def test_a_program_builds_the_library_as_a_static_sub_project(
    cpp_build: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    options = (f"-DPARAEXPORT_SOURCE={building.SOURCE}", "-DBUILD_SHARED_LIBS=OFF", "-DCMAKE_BUILD_TYPE=Debug")
    building.build(tmp_path, *options, source=CONSUMER)
    require_works(tmp_path / "consumer", small_bundle)
    assert not [*tmp_path.rglob("units")], "a sub-project builds no tests"


def test_the_archive_has_everything(cpp_build: Path, tmp_path: Path) -> None:
    building.must(building.run("cpack", "--config", cpp_build / "CPackConfig.cmake", "-B", tmp_path))
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {Path(name).name for name in file.getnames()}
    assert {"libparaexport.so", "paraexport.h", "paraexport.hpp", "paraexportConfig.cmake", "LICENSE"} <= names
    assert {"paraexport.pc"} <= names


def test_classify_labels_image_files(cpp_build: Path, float_bundle: Bundle) -> None:
    program = cpp_build / "examples" / "classify"
    if not program.exists():
        pytest.skip("needs libpng and libjpeg: apt install libpng-dev libjpeg-dev")
    files = sorted(TEST_IMAGES.rglob("*.png"))[::60]
    lines = building.must(building.run(program, float_bundle.path, *files)).splitlines()
    predictions = paraexport.load(float_bundle.path).predict(files, top=3)
    for line, prediction in zip(lines, predictions, strict=True):
        shares = " ".join(f"{label.label} {100 * label.score:.1f} %" for label in prediction.top)
        assert line == f"{prediction.image}: {shares}"
    done = building.run(program, float_bundle.path, __file__)
    assert done.returncode == 2
    assert "not an image that is read here (expected PNG or JPEG" in done.stderr


def test_the_other_examples_run(cpp_build: Path, prefix: Path, int8_bundle: Bundle) -> None:
    assert "golden difference" in building.must(building.run(cpp_build / "examples" / "minimal", int8_bundle.path))
    latency = building.must(building.run(cpp_build / "examples" / "latency", int8_bundle.path, 1, 0.2, 1))
    assert "p50" in latency
    library = cpp_build / "libparaexport.so"
    output = building.must(building.run(sys.executable, EXAMPLES / "ctypes_example.py", library, int8_bundle.path))
    label, logit = output.split()
    logits = paraexport.load(int8_bundle.path)(np.full((1, 1, 32, 32), 0.5, np.float32))[0]
    assert label == int8_bundle.manifest.labels[logits.argmax()]
    assert float(logit) == pytest.approx(float(logits.max()))


def test_rust_calls_the_library(prefix: Path, small_bundle: Bundle, tmp_path: Path) -> None:
    if shutil.which("rustc") is None:
        pytest.skip("needs rustc: https://rustup.rs")
    library = next(prefix.rglob("libparaexport.so")).parent
    program = tmp_path / "example"
    source = EXAMPLES / "example.rs"
    building.must(building.run("rustc", source, "-o", program, "-L", library, "-l", "paraexport"))
    output = building.must(building.run(program, small_bundle.path, env={"LD_LIBRARY_PATH": str(library)}))
    assert output.startswith("first label a, golden difference")


def test_the_header_is_c89(cpp_build: Path, tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler: apt install gcc")
    (tmp_path / "a.c").write_text(
        '#include "paraexport.h"\n#include "paraexport_images.h"\nint main(void) { return 0; }\n'
    )
    folders = ("-I", building.SOURCE / "include", "-I", building.SOURCE / "images" / "include")
    strict = ("-std=c90", "-pedantic-errors", "-Wall", "-Wextra", "-Werror", "-Wno-long-long")
    building.must(building.run("cc", *strict, *folders, "-fsyntax-only", tmp_path / "a.c"))


def test_calls_cost_little_and_allocate_nothing(cpp_build: Path, int8_bundle: Bundle) -> None:
    """Beyond the runtime's own call. The limit is far above the 0.5 µs that it takes, because machines are busy."""
    facts = json.loads(building.must(building.run(cpp_build / "tests" / "overhead", int8_bundle.path, 500)))
    assert facts["interface_allocations"] <= facts["session_allocations"] + 1
    assert facts["interface_us"] - facts["session_us"] <= max(10, 0.02 * facts["session_us"])
