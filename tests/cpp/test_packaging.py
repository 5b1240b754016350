"""What programs of others do: install the library, find it, link it, and run the examples."""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
from collections.abc import Callable
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
    folder = building.must(building.run("pkg-config", "--variable=libdir", "paraexport", env=environment)).strip()
    source, program = CONSUMER / "consumer.cpp", tmp_path / "consumer"
    building.must(building.run("c++", "-std=c++17", source, "-o", program, *flags, f"-Wl,-rpath,{folder}"))
    require_works(program, small_bundle)
    static = building.must(building.run("pkg-config", "--static", "--libs", "paraexport", env=environment))
    assert {"-lm", "-lstdc++"} <= {*static.split()}, "a static program in C needs them"


def test_a_program_builds_the_library_as_a_static_sub_project(
    cpp_build: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    options = (f"-DPARAEXPORT_SOURCE={building.SOURCE}", "-DBUILD_SHARED_LIBS=OFF", "-DCMAKE_BUILD_TYPE=Debug")
    building.build(tmp_path, *options, source=CONSUMER)
    require_works(tmp_path / "consumer", small_bundle)
    assert not [*tmp_path.rglob("units")], "a sub-project builds no tests"


def test_a_sub_project_leaves_the_choices_of_its_parent_alone(cpp_build: Path, tmp_path: Path) -> None:
    python = f"-DPython3_EXECUTABLE={sys.executable}"
    options = (f"-DPARAEXPORT_SOURCE={building.SOURCE}", python, *building.generator())
    building.must(building.run("cmake", "-S", CONSUMER, "-B", tmp_path, *options))
    cache = (tmp_path / "CMakeCache.txt").read_text().splitlines()
    assert "CMAKE_BUILD_TYPE:STRING=" in cache
    assert not [line for line in cache if line.startswith("BUILD_SHARED_LIBS")]


def test_a_machine_without_a_compiler_is_told_what_to_install(cpp_build: Path, tmp_path: Path) -> None:
    cmake, empty = shutil.which("cmake"), tmp_path / "empty"
    empty.mkdir()
    done = building.run(cmake, "-S", building.SOURCE, "-B", tmp_path / "build", env={"PATH": str(empty)})
    assert done.returncode
    assert "no C++ compiler is found: apt install g++ cmake" in done.stderr
    script = building.SOURCE / "cmake" / "fetch_headers.sh"
    done = building.run(shutil.which("sh"), script, tmp_path / "headers", env={"PATH": str(empty)})
    assert done.returncode == 3
    assert "-DPARAEXPORT_ONNXRUNTIME_INCLUDE=FOLDER" in done.stderr


def test_make_cpp_installs_no_python() -> None:
    if shutil.which("make") is None:
        pytest.skip("needs make: apt install make")
    commands = building.must(building.run("make", "-n", "cpp", cwd=building.ROOT))
    assert "cmake --install" in commands
    assert "pip" not in commands


def test_the_program_of_the_documentation_runs(
    prefix: Path, example: Callable[[str, str], Bundle], tmp_path: Path
) -> None:
    if not [*prefix.rglob("paraexport_images.h")]:
        pytest.skip("needs libpng and libjpeg: apt install libpng-dev libjpeg-dev")
    text = (building.ROOT / "docs" / "cpp.md").read_text()
    section = text[text.index("## From nothing") :]
    for language, name in (("cpp", "app.cpp"), ("cmake", "CMakeLists.txt")):
        (tmp_path / name).write_text(section.split(f"```{language}\n", 1)[1].split("```", 1)[0])
    building.build(tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}", source=tmp_path)
    image = building.ROOT / section.split("build/app PARAEXPORT/demo/digits.bundle PARAEXPORT/", 1)[1].split()[0]
    app, bundle = tmp_path / "build" / "app", example("onnxruntime", "fp32").path
    line = building.must(building.run(app, bundle, image)).strip()
    assert line == section.split("It prints `", 1)[1].split("`", 1)[0]
    assert "usage: app" in building.run(app).stderr
    assert building.run(app, bundle, __file__).returncode == 2
    assert building.run(app, tmp_path / "none", image).returncode == 2


MOVES = """
#include <paraexport.hpp>
#include <cstdio>
int main(int, char **argv) {
    paraexport::Engine engine{argv[1]}, other{argv[1]};
    const paraexport_engine *old = engine.handle(), *kept = other.handle();
    engine = std::move(other);
    const bool closed = paraexport_label(old, 0) == nullptr, open = paraexport_label(kept, 0) != nullptr;
    const unsigned char grey[1] = {0};
    try {
        engine.classify({grey, 1, 1, 1}, 0);
    } catch (const paraexport::Failure &failure) {
        std::printf("%d %d %s", closed, open && engine.handle() == kept && other.handle() == nullptr, failure.what());
    }
}
"""


def test_assigning_an_engine_closes_the_old_one(prefix: Path, small_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "moves.cpp").write_text(MOVES)
    library = next(prefix.rglob("libparaexport.so")).parent
    flags = ("-I", prefix / "include", "-L", library, "-lparaexport", f"-Wl,-rpath,{library}")
    building.must(building.run("c++", "-std=c++17", tmp_path / "moves.cpp", "-o", tmp_path / "moves", *flags))
    output = building.must(building.run(tmp_path / "moves", small_bundle.path))
    assert output == "1 1 most is 0 (expected at least 1)"


def test_the_archive_has_everything(cpp_build: Path, tmp_path: Path) -> None:
    building.must(building.run("cpack", "--config", cpp_build / "CPackConfig.cmake", "-B", tmp_path))
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {Path(name).name for name in file.getnames()}
    assert {"libparaexport.so", "paraexport.h", "paraexport.hpp", "paraexportConfig.cmake", "LICENSE"} <= names
    assert {"paraexport.pc", "THIRD_PARTY.md"} <= names
    if (building.HEADERS / "licences").is_dir():
        assert "nlohmann-json.txt" in names


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
    branches = ("--branches", 4)
    assert building.must(building.run(program, *branches, float_bundle.path, *files)).splitlines() == lines
    done = building.run(program, "--branches", 3, float_bundle.path, *files)
    assert done.returncode == 2
    assert "expected all 4 branches, got 3" in done.stderr
    for number in ("0", "-1", "x", "1x", ""):
        assert building.run(program, "--branches", number, float_bundle.path, *files).returncode == 2
    done = building.run(program, float_bundle.path, __file__)
    assert done.returncode == 2
    assert "not an image that is read here (expected PNG or JPEG" in done.stderr


def test_the_other_examples_run(cpp_build: Path, prefix: Path, int8_bundle: Bundle) -> None:
    assert "golden difference" in building.must(building.run(cpp_build / "examples" / "minimal", int8_bundle.path))
    latency = building.must(building.run(cpp_build / "examples" / "latency", int8_bundle.path, 1, 0.2, 1))
    assert "p50" in latency
    for arguments in (("0",), ("x",), ("1.5",), ("1", "-1"), ("1", "0.1", "1x"), ("1", "1", "1", "1")):
        assert building.run(cpp_build / "examples" / "latency", int8_bundle.path, *arguments).returncode == 2
    assert "usage: ctypes_example.py" in building.run(sys.executable, EXAMPLES / "ctypes_example.py").stderr
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


def test_calls_allocate_nothing(cpp_build: Path, int8_bundle: Bundle) -> None:
    """Beyond the runtime's own call. `benchmarks.cpp.latency` measures the time of the same calls."""
    facts = json.loads(building.must(building.run(cpp_build / "tests" / "overhead", int8_bundle.path, 500)))
    assert facts["interface_allocations"] <= facts["session_allocations"] + 1
