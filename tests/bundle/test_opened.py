"""Every file of a bundle is regular, inside and of bounded size; and what was verified is what runs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import paraexport
from paraexport import targets
from paraexport.bundle import Bundle, read_bundle
from paraexport.bundle.opened import OpenFolder
from paraexport.engine import Engine
from paraexport.errors import BundleError
from tests.bundle.forging import copied, forge
from tests.bundle.test_bundle import runtime_of


@pytest.fixture
def copy(small_bundle: Bundle, tmp_path: Path) -> Path:
    return copied(small_bundle.path, tmp_path / "a.bundle")


def fifo(file: Path) -> None:
    os.mkfifo(file)


def link_to(target: str) -> Callable[[Path], None]:
    return lambda file: file.symlink_to(target)


def link_out(file: Path) -> None:
    (file.parent.parent / "outside").write_bytes(b"{}")
    file.symlink_to("../outside")


ODD = [
    (fifo, "not a regular file .got a pipe"),
    (link_to("/dev/zero"), "not a regular file .got a device"),
    (lambda file: file.mkdir(), "not a regular file .got a folder"),
    (link_out, "a link leads out of the bundle"),
    (lambda file: file.symlink_to(file.name), "a link that leads to itself"),
    (link_to("nowhere"), "not a bundle|is missing"),
]


@pytest.mark.parametrize(("make", "message"), ODD)
@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "golden.safetensors"])
def test_an_odd_file_is_refused_at_once(name: str, make: Callable[[Path], None], message: str, copy: Path) -> None:
    (copy / name).unlink()
    make(copy / name)
    with pytest.raises(BundleError, match=message) as caught:
        paraexport.load(copy)
    assert "\n" not in str(caught.value)
    assert str(copy) in str(caught.value)


def test_a_swap_during_the_check_is_no_link(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder has another name before and after its file is looked up; the next look is consistent."""
    original, looks = OpenFolder._real_paths, []

    def swapped(folder: OpenFolder, name: str, descriptor: int) -> tuple[Path, Path, Path]:
        looks.append(name)
        before, file, after = original(folder, name, descriptor)
        return (Path("/old"), file, Path("/new")) if len(looks) % 3 else (before, file, after)

    monkeypatch.setattr(OpenFolder, "_real_paths", swapped)
    paraexport.load(copy)
    assert len(looks) > len({*looks})
    (copy / "golden.safetensors").unlink()
    link_out(copy / "golden.safetensors")
    with pytest.raises(BundleError, match="a link leads out of the bundle"):
        paraexport.load(copy)


def test_a_manifest_of_any_size_is_not_read_whole(copy: Path) -> None:
    with (copy / "manifest.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match=r"manifest\.json: too large .expected at most 67108864 bytes"):
        paraexport.load(copy)


def test_a_link_inside_the_bundle_is_followed(copy: Path) -> None:
    """As where a folder is mounted into a container."""
    (copy / "..data").mkdir()
    for file in [file for file in copy.iterdir() if file.is_file()]:
        file.rename(copy / "..data" / file.name)
        file.symlink_to(f"..data/{file.name}")
    paraexport.load(copy)


def test_a_link_to_the_bundle_is_followed(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("a.bundle")
    paraexport.load(tmp_path / "current")


@pytest.mark.parametrize("path", ["x" * 300, "a\0b", "/dev/null", "/dev/null/x"])
def test_an_odd_path_is_no_bundle(path: str) -> None:
    with pytest.raises(BundleError):
        paraexport.load(path)


def other_weights(bundle: Path) -> None:
    """The same graph with other weights, so that its answers differ."""
    model = onnx.load(bundle / "model.onnx")
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.5), tensor.name))
    onnx.save(model, bundle / "model.onnx")
    forge(bundle)


def weights_outside(bundle: Path) -> None:
    model = onnx.load(bundle / "model.onnx")
    onnx.save(model, bundle / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=256)
    forge(bundle, lambda raw: raw["files"].update({"model.onnx.data": {"sha256": "", "size_bytes": 0}}))
    forge(bundle)


@pytest.fixture
def images() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((2, 1, 8, 12), np.float32)


@pytest.mark.parametrize("outside", [False, True], ids=["inside", "outside"])
@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_the_runtime_opens_what_was_hashed(
    target: str, outside: bool, copy: Path, images: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another bundle comes to the path between the check of the hashes and the runtime's own opening of the file."""
    forge(copy, lambda raw: raw.update(target=target, runtime=msgspec.to_builtins(runtime_of(target))))
    other = copied(copy, copy.parent / "other.bundle")
    other_weights(other)
    if outside:
        weights_outside(copy)
        weights_outside(other)
    answers = {read_bundle(path).manifest.digest: paraexport.load(path)(images) for path in (copy, other)}
    assert np.abs(np.subtract(*answers.values())).max() > 1e-3
    real = type(targets.get(target)).open_session
    swaps: list[int] = []

    def swapping(self: object, *arguments: object) -> object:
        if not swaps:
            copy.rename(copy.parent / "old")
            other.rename(copy)
            swaps.append(1)
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(type(targets.get(target)), "open_session", swapping)
    engine = paraexport.load(copy)
    np.testing.assert_array_equal(engine(images), answers[engine.manifest.digest])
    assert swaps


@pytest.mark.parametrize("outside", [False, True], ids=["inside", "outside"])
def test_a_bundle_that_is_removed_while_it_opens_is_never_half_read(
    outside: bool, copy: Path, tmp_path: Path, images: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = copied(copy, tmp_path / "other.bundle")
    other_weights(other)
    if outside:
        weights_outside(copy)
    expected = paraexport.load(other if outside else copy)(images)
    real = type(targets.get("onnxruntime")).open_session
    swaps: list[int] = []

    def swapping(self: object, *arguments: object) -> object:
        if not swaps:
            shutil.rmtree(copy)
            other.rename(copy)
            swaps.append(1)
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(type(targets.get("onnxruntime")), "open_session", swapping)
    engine = paraexport.load(copy)
    np.testing.assert_array_equal(engine(images), expected)
    assert swaps


def test_a_file_that_is_written_to_while_it_opens_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = type(targets.get("onnxruntime")).open_session

    def writing(self: object, *arguments: object) -> object:
        content = bytearray((copy / "model.onnx").read_bytes())
        content[len(content) // 2] ^= 1
        with (copy / "model.onnx").open("r+b") as file:
            file.write(content)
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(type(targets.get("onnxruntime")), "open_session", writing)
    with pytest.raises(BundleError, match=r"model\.onnx: written to while it was read"):
        paraexport.load(copy)


def test_the_golden_data_of_an_opened_bundle_stay_those_that_were_verified(copy: Path) -> None:
    opened = read_bundle(copy)
    before = (copy / "golden.safetensors").read_bytes()
    shutil.rmtree(copy)
    assert opened.files.read("golden.safetensors") == before


def test_no_handle_stays_open(copy: Path) -> None:
    def handles() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    paraexport.load(copy)
    before = handles()
    for _ in range(5):
        engine = paraexport.load(copy)
        del engine
    (copy / "model.onnx").write_bytes(b"damaged")
    for _ in range(5):
        with pytest.raises(BundleError):
            paraexport.load(copy)
    assert handles() <= before + 1


def test_a_system_without_handles_opens_paths(
    copy: Path, images: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = paraexport.load(copy)(images)
    monkeypatch.setattr("paraexport.bundle.opened.HANDLES", Path("/nowhere"))
    monkeypatch.setattr(os, "supports_dir_fd", set())
    folder = OpenFolder(copy)
    assert folder.at("model.onnx") == copy / "model.onnx"
    np.testing.assert_array_equal(paraexport.load(copy)(images), expected)
    (copy / "notes.txt").touch()
    with pytest.raises(BundleError, match="files that the manifest does not list"):
        paraexport.load(copy)


def test_an_engine_of_a_bundle_in_the_hands_of_another_process(copy: Path) -> None:
    """What a build leaves that is killed between two renames is put back by whoever opens it next."""
    script = """
import os, signal, sys
from pathlib import Path
from paraexport.bundle import staging, swap
swap.exchange = lambda *_: False
rename = Path.rename
def killing(self, target):
    rename(self, target)
    os.kill(os.getpid(), signal.SIGKILL)
Path.rename = killing
with staging(Path(sys.argv[1]), force=True) as folder:
    (folder / "x").touch()
"""
    assert subprocess.run([sys.executable, "-c", script, str(copy)], check=False).returncode == -9
    assert not copy.exists()
    assert isinstance(paraexport.load(copy), Engine)
    assert [entry.name for entry in copy.parent.iterdir()] == ["a.bundle"]
