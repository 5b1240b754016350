"""The models with fewer branches: the C library gives the bits, the errors and the checks of Python."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import paraexport
from paraexport.bundle import Bundle, read_bundle
from paraexport.checks.comparison import compare
from paraexport.checks.golden import read_all
from paraexport.errors import InputError
from tests.bundle.forging import add_fewer_branches, copied, forge
from tests.bundle.test_forged import put
from tests.cpp.library import BAD_INPUT, CHECK_FAILED, CEngine, FailedError, Info, Library, Options
from tests.cpp.test_engine import files_of

COUNTS = (1, 2, 4)
"""Of the 4 branches of the example."""
NUMBERS = np.random.default_rng(0)


def images_of(bundle: Path, count: int = 3) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    shape = read_bundle(bundle).manifest.inputs[0].shape[1:]
    return NUMBERS.standard_normal((count, *map(int, shape)), np.float32)


@pytest.fixture(
    scope="module",
    params=[(target, precision) for target in ("onnxruntime", "openvino") for precision in ("fp32", "int8")],
    ids="-".join,
)
def several(
    request: pytest.FixtureRequest, example: Callable[[str, str], Bundle], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The example with models of 1 and 2 of its 4 branches."""
    bundle = copied(example(*request.param).path, tmp_path_factory.mktemp("several") / "a.bundle")
    add_fewer_branches(bundle, 1, 2)
    return bundle


@pytest.mark.parametrize("branches", COUNTS)
def test_logits_and_checks_are_those_of_python(branches: int, library: Library, several: Path) -> None:
    images, engine = images_of(several, 70), paraexport.load(several, branches=branches)
    golden = read_all(read_bundle(several).files)
    logits = golden.first.get(branches, golden.logits)
    expected = compare(engine, [(golden.images, logits)], None, tie=0).relative_difference
    with library.open(several, branches=branches) as ours:
        np.testing.assert_array_equal(ours(images).view(np.int32), engine(images).view(np.int32))
        assert ours.info()["branches"] == engine.branches == branches
        assert ours.check() == pytest.approx(expected, rel=1e-9)
    with library.open(several) as ours:
        assert ours.info()["branches"] == 4
        assert np.array_equal(ours(images), engine(images)) == (branches == 4)


@pytest.mark.parametrize("branches", COUNTS)
def test_a_bundle_in_memory_answers_alike(branches: int, library: Library, several: Path) -> None:
    files = files_of(several)
    openers = (library.open_memory, library.open_reader)
    if read_bundle(several).manifest.target == "openvino":
        for opener in openers:
            with pytest.raises(FailedError, match="OpenVINO cannot read weights of a second file from memory"):
                opener(files, branches=branches)
        return
    images = images_of(several)
    with library.open(several, branches=branches) as ours:
        expected, difference = ours(images), ours.check()
    for opener in openers:
        with opener(files, branches=branches) as ours:
            np.testing.assert_array_equal(ours(images), expected)
            assert ours.info()["branches"] == branches
            assert ours.check() == difference


def test_a_bundle_of_a_build_answers_alike(library: Library, small: Path, tmp_path: Path) -> None:
    bundle = paraexport.build(small, tmp_path / "a.bundle", max_batch=5, branches_at_load="all").path
    images = images_of(bundle)
    for branches in (1, 2, 3):
        with library.open(bundle, branches=branches) as ours:
            np.testing.assert_array_equal(ours(images), paraexport.load(bundle, branches=branches)(images))
            ours.check()


@pytest.mark.parametrize("kind", ["several", "one", "module"])
def test_a_number_that_the_bundle_does_not_hold_is_refused_as_in_python(
    kind: str, library: Library, small_bundle: Bundle, small_with_fewer: Path, tmp_path: Path
) -> None:
    bundle = copied(small_with_fewer if kind == "several" else small_bundle.path, tmp_path / "a.bundle")
    if kind == "module":
        forge(bundle, put("spec", None))
        with library.open(bundle) as ours:
            assert ours.info()["branches"] == 0
    for branches in (-1, 4, 2**31 - 1):
        with pytest.raises(InputError) as expected:
            paraexport.load(bundle, branches=branches)
        with pytest.raises(FailedError) as caught:
            library.open(bundle, branches=branches)
        assert (caught.value.status, str(caught.value)) == (BAD_INPUT, str(expected.value))
        with pytest.raises(FailedError) as caught:
            library.open_memory(files_of(bundle), branches=branches)
        assert str(caught.value) == str(expected.value).replace(str(bundle), "the bundle in memory")


def test_the_limit_is_that_of_the_model(library: Library, small_with_fewer: Path, tmp_path: Path) -> None:
    bundle = copied(small_with_fewer, tmp_path / "a.bundle")
    forge(bundle, put("fewer_branches.1.checks.0.limit", 0.0))
    for branches in (1, 3):
        with library.open(bundle, branches=branches) as ours:
            assert ours.check() > 0
    with (
        library.open(bundle, branches=2) as ours,
        pytest.raises(FailedError, match=r"check failed: parity .expected at most 0,") as caught,
    ):
        ours.check()
    assert caught.value.status == CHECK_FAILED


@pytest.mark.parametrize("name", ["model.onnx", "model.first1.onnx", "model.onnx.data"])
def test_every_file_is_verified_for_every_number(
    name: str, library: Library, small_with_fewer: Path, tmp_path: Path
) -> None:
    bundle = copied(small_with_fewer, tmp_path / "a.bundle")
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    for branches in (0, 1, 2):
        with pytest.raises(FailedError, match=f"{name}: a file of the bundle was changed"):
            library.open(bundle, branches=branches)
        with pytest.raises(FailedError, match=f"{name}: a file of the bundle was changed"):
            library.open_memory(files_of(bundle), branches=branches)


def test_structs_of_an_older_header_mean_all_branches(library: Library, small_with_fewer: Path) -> None:
    options = Options(Options.branches.offset, branches=2)
    handle = ctypes.c_void_p()
    path = str(small_with_fewer).encode()
    library.require(library.c.paraexport_open(path, ctypes.byref(options), ctypes.byref(handle)))
    with CEngine(library, handle) as ours:
        assert ours.info()["branches"] == 3
        info = Info(Info.branches.offset, branches=77)
        library.require(library.c.paraexport_get_info(ours.handle, ctypes.byref(info)))
        assert (info.classes, info.branches) == (5, 77)
