"""The C library gives the same bits as Python: logits, labels, golden check; from folders and from memory."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest

import paraexport
from paraexport.bundle import Bundle
from paraexport.checks.comparison import compare
from paraexport.checks.golden import read_all
from paraexport.images.preprocess import read_image
from paraexport.model.scores import recorded
from paraexport.targets.ort.saturation import PRODUCT
from tests.bundle.forging import copied, forge
from tests.conftest import TEST_IMAGES
from tests.cpp import building
from tests.cpp.library import BAD_INPUT, MISSING, FailedError, Library

VERSIONS = {"onnxruntime": onnxruntime.__version__, "openvino": openvino.__version__.partition("-")[0]}


def files_of(bundle: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in bundle.iterdir()}


def test_logits_are_the_bits_of_python(library: Library, every_bundle: Bundle) -> None:
    engine = paraexport.load(every_bundle.path)
    with library.open(every_bundle.path) as ours:
        for batch in (1, 2, 7, 64, 100):
            images = np.random.default_rng(batch).standard_normal((batch, 1, 32, 32), np.float32)
            np.testing.assert_array_equal(ours(images).view(np.int32), engine(images).view(np.int32))
        assert ours(np.zeros((0, 1, 32, 32), np.float32)).shape == (0, 10)


def test_facts_and_labels_are_those_of_the_manifest(library: Library, every_bundle: Bundle) -> None:
    manifest = every_bundle.manifest
    with library.open(every_bundle.path) as ours:
        info = ours.info()
        assert Path(info.pop("runtime_path")).is_file()
        assert info == {
            "channels": 1, "height": 32, "width": 32, "classes": 10, "max_batch": manifest.max_batch,
            "target": manifest.target, "precision": manifest.precision, "layout": manifest.layout,
            "runtime_version": VERSIONS[manifest.target], "branches": 4,
        }  # fmt: skip
        assert ours.labels() == manifest.labels


def test_images_get_the_labels_and_probabilities_of_python(library: Library, every_bundle: Bundle) -> None:
    files = sorted(TEST_IMAGES.rglob("*.png"))[::40]
    expected = paraexport.load(every_bundle.path).predict(files, top=3)
    with library.open(every_bundle.path) as ours:
        for file, prediction in zip(files, expected, strict=True):
            answers = ours.classify(read_image(file, 3), most=3)
            assert [(answer.index, answer.label) for answer in answers] == [
                (label.index, label.label) for label in prediction.top
            ]
            for answer, label in zip(answers, prediction.top, strict=True):
                assert answer.score == answer.probability == pytest.approx(label.score, rel=1e-12)


def test_golden_data_is_replayed_with_the_difference_that_python_finds(library: Library, every_bundle: Bundle) -> None:
    golden, manifest = read_all(every_bundle.files), every_bundle.manifest
    scores = recorded(manifest.scores, len(manifest.labels))
    engine = paraexport.load(every_bundle.path)
    expected = compare(engine, [(golden.images, golden.logits)], None, tie=0, scores=scores).relative_difference
    with library.open(every_bundle.path) as ours:
        assert ours.check() == pytest.approx(expected, rel=1e-9)


def test_a_bundle_in_memory_answers_alike(library: Library, every_bundle: Bundle) -> None:
    images = np.random.default_rng(0).standard_normal((3, 1, 32, 32), np.float32)
    with library.open(every_bundle.path) as ours:
        expected, difference = ours(images), ours.check()
    files = files_of(every_bundle.path)
    for engine in (library.open_memory(files), library.open_reader(files)):
        with engine:
            np.testing.assert_array_equal(engine(images), expected)
            assert engine.check() == difference


def test_damage_in_memory_is_refused(library: Library, small_bundle: Bundle) -> None:
    files = files_of(small_bundle.path)
    model = bytearray(files["model.onnx"])
    model[100] ^= 1
    for broken, message in (
        ({**files, "model.onnx": bytes(model)}, "the bundle in memory/model.onnx: a file of the bundle was changed"),
        ({name: data for name, data in files.items() if name != "model.onnx"}, "a file of the bundle is missing"),
        ({}, "not a bundle .expected manifest.json in it"),
    ):
        with pytest.raises(FailedError, match=message) as caught:
            library.open_memory(broken or {"x": b""})
        assert caught.value.status == BAD_INPUT


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_weights_in_a_second_file_are_read(target: str, library: Library, small_bundle: Bundle, tmp_path: Path) -> None:
    import msgspec
    import onnx

    from tests.bundle.test_bundle import runtime_of

    bundle = copied(small_bundle.path, tmp_path / "a.bundle")
    forge(bundle, lambda raw: raw.update(target=target, runtime=msgspec.to_builtins(runtime_of(target))))
    images = np.random.default_rng(0).standard_normal((3, 1, 8, 12), np.float32)
    model = onnx.load(bundle / "model.onnx")
    onnx.save(model, bundle / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=256)
    forge(bundle, lambda raw: raw["files"].update({"model.onnx.data": {"sha256": "", "size_bytes": 0}}))
    forge(bundle)
    expected = paraexport.load(bundle)(images)
    with library.open(bundle) as ours:
        np.testing.assert_array_equal(ours(images), expected)
    if target == "onnxruntime":
        with library.open_memory(files_of(bundle)) as ours:
            np.testing.assert_array_equal(ours(images), expected)
    else:
        with pytest.raises(FailedError, match="OpenVINO cannot read weights of a second file from memory"):
            library.open_memory(files_of(bundle))
    (bundle / "other").write_text("x")
    with pytest.raises(FailedError, match=r"files that the manifest does not list .got other"):
        library.open(bundle)


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_weights_that_are_not_listed_are_not_read(
    target: str, library: Library, small_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even from the current folder, in which a model in memory could look for them."""
    import msgspec
    import onnx

    from tests.bundle.test_bundle import runtime_of

    bundle = copied(small_bundle.path, tmp_path / "a.bundle")
    model = onnx.load(bundle / "model.onnx")
    onnx.save(model, bundle / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=256)
    forge(bundle, lambda raw: raw.update(target=target, runtime=msgspec.to_builtins(runtime_of(target))))
    monkeypatch.chdir(bundle)
    for engine in (library.open, lambda path: library.open_memory(files_of(path))):
        with pytest.raises(FailedError, match="cannot open the model") as caught:
            engine(bundle)
        assert caught.value.status == BAD_INPUT


def test_threads_are_those_of_the_program(library: Library, small_bundle: Bundle) -> None:
    images = np.random.default_rng(0).standard_normal((3, 1, 8, 12), np.float32)
    expected = paraexport.load(small_bundle.path, threads=1)(images)
    with library.open(small_bundle.path, threads=1) as ours:
        np.testing.assert_array_equal(ours(images), expected)
    for threads in (-1, 10**6):
        with pytest.raises(FailedError, match=r"the number of threads is not possible .expected a whole number"):
            library.open(small_bundle.path, threads=threads)


def test_a_runtime_that_is_not_there_is_named(library: Library, small_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "libonnxruntime.so.1.99").write_text("not a library")
    for path, message in (
        ("/nowhere/libonnxruntime.so", r"expected one of /nowhere/libonnxruntime\.so, got .*No such file"),
        (str(tmp_path), r".*libonnxruntime\.so\.1\.99, got .*(invalid ELF header|file too short)"),
    ):
        with pytest.raises(
            FailedError, match=rf"ONNX Runtime cannot be loaded .{message}.*PARAEXPORT_ONNXRUNTIME"
        ) as caught:
            library.open(small_bundle.path, runtime=path)
        assert caught.value.status == MISSING


def test_a_library_that_is_no_runtime_is_named(library: Library, small_bundle: Bundle, cpp_build: Path) -> None:
    other = cpp_build / "libparaexport.so"
    with pytest.raises(FailedError, match="not ONNX Runtime; it has no function OrtGetApiBase") as caught:
        library.open(small_bundle.path, runtime=str(other))
    assert caught.value.status == MISSING


def test_the_folder_of_the_environment_or_of_the_package_is_enough(library: Library, float_bundle: Bundle) -> None:
    package = {"onnxruntime": onnxruntime, "openvino": openvino}[float_bundle.manifest.target]
    folder = Path(package.__file__).parent
    for runtime in (folder, folder.parent.parent.parent.parent):
        library.open(float_bundle.path, runtime=str(runtime)).close()


OPEN = """
import sys
from pathlib import Path
from tests.cpp.library import Library, FailedError
try:
    Library(Path(sys.argv[1])).open(sys.argv[2], runtime=sys.argv[3])
except FailedError as error:
    print(error.status, error)
"""


@pytest.mark.parametrize("frontend", [False, True])
def test_openvino_without_its_plugins_is_incomplete(
    frontend: bool, library: Library, cpp_build: Path, example: Callable[[str, str], Bundle], tmp_path: Path
) -> None:
    names = ("libopenvino_c.so*", "libopenvino.so*", "libtbb*", "libhwloc*")
    for name in (*names, "libopenvino_onnx_frontend*") if frontend else names:
        for file in (Path(openvino.__file__).parent / "libs").glob(name):
            shutil.copy(file, tmp_path)
    bundle = example("openvino", "fp32").path
    # in a process of its own, because this one has loaded all of OpenVINO
    done = building.run(sys.executable, "-c", OPEN, cpp_build / "libparaexport.so", bundle, tmp_path, cwd=building.ROOT)
    output = building.must(done)
    assert output.startswith(f"{MISSING} {tmp_path}/libopenvino_c.so")
    assert output.strip().endswith("take the whole folder `libs` of OpenVINO")


def test_a_bundle_for_another_target_than_asked_is_refused(library: Library, small_bundle: Bundle) -> None:
    with pytest.raises(FailedError, match=r"the bundle is for another target .expected openvino, got onnxruntime"):
        library.open(small_bundle.path, target="openvino")
    library.open(small_bundle.path, target="onnxruntime").close()


PYTHON_PROBES = {"onnxruntime": "paraexport.targets.ort.saturation", "openvino": "paraexport.targets.openvino"}
OLD_CPU = {"OV_CPU_MAX_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""Makes OpenVINO compute as on a CPU without VNNI. ONNX Runtime has no such variable."""


@pytest.mark.parametrize(("runtime", "old"), [("onnxruntime", False), ("openvino", False), ("openvino", True)])
def test_the_saturation_probe_agrees_with_python(runtime: str, old: bool, library: Library, cpp_build: Path) -> None:
    environment = OLD_CPU if old else {}
    code = f"from {PYTHON_PROBES[runtime]} import saturates; print(saturates())"
    expected = building.must(building.run(sys.executable, "-c", code, env=environment)).strip()
    ours = building.must(building.run(cpp_build / "tests" / "probe", runtime, env=environment)).strip()
    assert ours == expected
    assert not old or ours == "True"


SAME_LOGITS = """
import sys
from pathlib import Path
import numpy as np
import paraexport
from tests.cpp.library import Library
images = np.random.default_rng(0).standard_normal((7, 1, 32, 32), np.float32)
with Library(Path(sys.argv[1])).open(sys.argv[2]) as ours:
    np.testing.assert_array_equal(ours(images), paraexport.load(sys.argv[2])(images))
"""


def test_settings_for_a_cpu_whose_products_saturate_are_those_of_python(
    library: Library, cpp_build: Path, int8_bundle: Bundle
) -> None:
    file = cpp_build / "libparaexport.so"
    done = building.run(sys.executable, "-c", SAME_LOGITS, file, int8_bundle.path, env=OLD_CPU, cwd=building.ROOT)
    building.must(done)


def test_the_probe_of_onnxruntime_is_the_model_of_python() -> None:
    text = (building.SOURCE / "src/runtimes/onnxruntime_probe.cpp").read_text()
    body = text[text.index("{\n ") : text.index("};")]
    assert bytes(int(word, 16) for word in body.replace("{", "").replace(",", " ").split()) == PRODUCT


def test_the_library_is_small_and_exports_only_its_interface(cpp_build: Path, tmp_path: Path) -> None:
    library = cpp_build / "libparaexport.so"
    if shutil.which("strip") is None or shutil.which("nm") is None:
        pytest.skip("needs strip and nm: apt install binutils")
    building.must(building.run("strip", "-o", tmp_path / "stripped.so", library))
    assert (tmp_path / "stripped.so").stat().st_size <= 400_000
    for file in (library, *cpp_build.rglob("libparaexport_images.so")):
        names = building.must(building.run("nm", "-D", "--defined-only", file)).split()[2::3]
        assert names
        assert all(name.startswith("paraexport_") for name in names)
