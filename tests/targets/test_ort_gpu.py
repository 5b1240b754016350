"""ONNX Runtime's GPU providers where there is no GPU: every way to the CPU is an error, and each item has its name.

Nothing stands in for CUDA: these tests run the ONNX Runtime that is installed, whichever build it is.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import paraexport
from paraexport import targets
from paraexport.bundle import Bundle
from paraexport.checks.golden import read
from paraexport.errors import InputError, MissingError
from paraexport.pipeline import candidate_times
from paraexport.pipeline.options import Options
from paraexport.rewrite import LAYOUTS, rewrite
from paraexport.targets.ort import available, gpu
from paraexport.targets.ort.placement import PlacedNode, read_placement, require_on, shapes_only
from paraexport.targets.ort.provider import CPU, CUDA, PROVIDERS, RTX, TENSORRT, Provider
from paraexport.targets.target import Workload
from paraexport.targets.trt.device import Device, find_device
from tests.remedies import pip_install
from tests.targets.engines import SMALL, compile_here, traced

GPU = (CUDA, TENSORRT, RTX)
WORKLOAD = Workload(image=(1, 8, 12), max_batch=5)
NAMES = [item.name for item in GPU]


def require_no_gpu(provider: Provider) -> None:
    if targets.get(provider.name).availability().version is not None:
        pytest.skip(f"{provider.provider} can run here")


@pytest.mark.parametrize("provider", GPU, ids=NAMES)
def test_a_provider_that_is_not_here_is_an_error_and_no_session_on_the_cpu(
    provider: Provider, small_bundle: Bundle
) -> None:
    """Asked plainly, ONNX Runtime opens the CPU's provider with a warning, and answers."""
    require_no_gpu(provider)
    with pytest.raises(MissingError, match=f"target {provider.name}: ONNX Runtime did not open") as caught:
        gpu.open_session(provider, small_bundle.path / "model.onnx", WORKLOAD, provider.runtime(WORKLOAD, None))
    assert caught.value.exit_code == 3
    assert caught.value.expected == f"a session on {provider.provider}"
    assert caught.value.got


def test_nodes_that_run_on_the_cpu_are_an_error_though_the_provider_is_there(small_bundle: Bundle) -> None:
    """The wheel for CPUs has a second provider, which takes no node at all."""
    other = "AzureExecutionProvider"
    if other not in onnxruntime.get_available_providers():
        pytest.skip(f"this build of onnxruntime has no {other}")
    provider = dataclasses.replace(CPU, provider=other)
    with pytest.raises(MissingError, match=r"(\d+) of \d+ nodes did not run on the GPU") as caught:
        gpu.open_session(provider, small_bundle.path / "model.onnx", WORKLOAD, provider.runtime(WORKLOAD, None))
    assert caught.value.expected == f"all on {other}"
    assert "on CPUExecutionProvider" in str(caught.value.got)


def test_a_session_that_runs_where_it_was_asked_to_answers_as_ever(small_bundle: Bundle) -> None:
    images, expected = read(small_bundle.files)
    session = gpu.open_session(CPU, small_bundle.path / "model.onnx", WORKLOAD, CPU.runtime(WORKLOAD, None))
    (logits,) = session.run(None, {"images": images})
    assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()
    assert session._enable_fallback is False


def test_shapes_alone_may_be_computed_on_the_cpu(small_bundle: Bundle, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(
        small_bundle.path / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    session.run(None, {"images": read(small_bundle.files)[0]})
    placed = read_placement(Path(session.end_profiling()))
    shapes = {item.operator for item in placed if item.shapes_only}
    assert "Shape" in shapes
    assert shapes <= {"Shape", "Concat", "Gather", "Slice", "Squeeze", "Unsqueeze"}
    sizes, others = [[item for item in placed if item.shapes_only is only] for only in (True, False)]
    moved = [dataclasses.replace(item, provider=CUDA.provider) for item in others]
    require_on(CUDA, [*sizes, *moved])
    with pytest.raises(MissingError, match=rf"1 of {len(placed)} nodes did not run on the GPU"):
        require_on(CUDA, [*sizes, others[0], *moved[1:]])


def test_a_profile_without_nodes_proves_nothing() -> None:
    with pytest.raises(MissingError, match="got no node"):
        require_on(CUDA, ())
    with pytest.raises(MissingError, match="got no node"):
        require_on(CUDA, [PlacedNode("shape", "Shape", "CPUExecutionProvider", shapes_only=True)])


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([{"int64": [3]}], True),
        ([{"int64": []}], True),
        ([{"int64": [3]}, {"float": [3]}], False),
        ([{"float": [1]}], False),
        ([{"int64": [4096]}], False),
        ([], False),
    ],
)
def test_what_counts_as_a_shape(outputs: list[dict[str, list[int]]], expected: bool) -> None:
    assert shapes_only(outputs) is expected


@pytest.mark.parametrize("provider", GPU, ids=NAMES)
def test_a_build_says_what_is_missing_before_any_work(provider: Provider, small: Path, tmp_path: Path) -> None:
    require_no_gpu(provider)
    here = targets.get(provider.name).availability()
    assert here.missing
    assert here.remedy
    with pytest.raises(MissingError) as caught:
        paraexport.build(small, tmp_path / "a.bundle", target=provider.name)
    assert (caught.value.where, caught.value.what) == (f"target {provider.name}", here.missing)
    assert not (tmp_path / "a.bundle").exists()


@pytest.mark.parametrize("provider", [CUDA, TENSORRT], ids=NAMES[:2])
def test_the_build_for_cpus_is_told_apart(provider: Provider) -> None:
    if provider.provider in onnxruntime.get_available_providers():
        pytest.skip("this is the build for GPUs")
    item = available.missing_build(provider)
    assert item is not None
    assert item.missing == f"onnxruntime {onnxruntime.__version__} is a build without {provider.provider}"
    assert item.remedy.startswith(f"pip uninstall onnxruntime, then {pip_install('gpu')}")


def test_two_builds_at_once_are_told_where_the_one_for_gpus_was_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    if CUDA.provider in onnxruntime.get_available_providers():
        pytest.skip("this is the build for GPUs")
    monkeypatch.setattr(available, "is_installed", lambda name: True)
    item = available.missing_build(CUDA)
    assert item is not None
    assert item.missing.startswith("onnxruntime and onnxruntime-gpu are both installed and overwrite each other")
    assert item.remedy == f"pip uninstall onnxruntime onnxruntime-gpu, then {pip_install('gpu')}"


def test_the_plugin_of_tensorrt_rtx_is_a_package_of_its_own() -> None:
    if importlib.util.find_spec(RTX.plugin) is not None:
        pytest.skip(f"{RTX.plugin} is installed")
    item = available.missing_plugin(RTX)
    assert item == available.MissingItem(f"{RTX.plugin} is not installed", pip_install("gpu-rtx"))


def test_without_a_gpu_no_other_wheel_is_asked_for() -> None:
    if not isinstance(device := find_device(), str):
        pytest.skip(f"there is one: {device}")
    for name in NAMES:
        assert targets.get(name).availability() == targets.Availability(None, device, available.ELSEWHERE)


@pytest.mark.parametrize("provider", GPU, ids=NAMES)
def test_without_onnx_runtime_the_remedy_is_to_install_it(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    here = targets.get(provider.name).availability()
    assert "cannot be imported" in here.missing
    assert here.remedy == provider.remedy


def test_a_library_that_cannot_be_loaded_is_told_with_the_loaders_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capi = tmp_path / "capi"
    capi.mkdir()
    (capi / "libonnxruntime_providers_shared.so").write_bytes(b"no library")
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(SystemExit) as caught:
        available.serve(CUDA.name)
    assert caught.value.code == 1
    assert "libonnxruntime_providers_shared.so" in capsys.readouterr().out


def test_the_program_that_tries_the_library_ends_in_words_where_it_is_not_there() -> None:
    if CUDA.provider in onnxruntime.get_available_providers():
        pytest.skip("this is the build for GPUs")
    item = available.missing_libraries(CUDA)
    assert item is not None
    assert item.missing.startswith("CUDAExecutionProvider cannot be loaded: ")
    assert "Traceback" not in item.missing


@pytest.mark.parametrize(("wheel", "lacking"), [("12.8", False), ("13.0", False), ("14.1", True)])
def test_a_driver_older_than_the_wheel_is_told(wheel: str, lacking: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "cuda_version", wheel, raising=False)
    item = available.missing_driver(Device("NVIDIA L4", "8.9", "13.0"))
    assert (item is not None) is lacking
    if item is not None:
        assert item.missing == (
            "onnxruntime is built for CUDA 14, and the GPU is NVIDIA L4, compute capability 8.9, driver for CUDA 13.0"
        )


@pytest.mark.parametrize(
    ("provider", "reason", "remedy"),
    [
        (CUDA, "libcublasLt.so.13: cannot open shared object file", pip_install("gpu")),
        (TENSORRT, "libcudnn.so.9: cannot open shared object file", pip_install("gpu")),
        (TENSORRT, "libnvinfer.so.10: cannot open shared object file", "pip install 'tensorrt-cu13>=10.14,<11'"),
    ],
)
def test_the_remedy_fits_the_library_that_is_missing(
    provider: Provider, reason: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0", raising=False)
    assert available.remedy_for(provider, reason) == remedy


@pytest.mark.parametrize(
    ("target", "precision"),
    [("onnxruntime-cuda", "int8"), ("onnxruntime-tensorrt", "fp16"), ("onnxruntime-tensorrt", "bf16")],
)
def test_a_precision_that_would_not_be_kept_is_refused(target: str, precision: str) -> None:
    with pytest.raises(InputError, match=f"--target {target}: .*got --precision {precision}") as caught:
        Options(target=target, precision=precision)
    assert caught.value.exit_code == 2
    for name in str(caught.value.remedy).removeprefix("give --target ").split(" or "):
        Options(target=name, precision=precision)


def test_auto_leaves_out_what_cannot_run_or_would_not_keep_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        here = targets.get(name).availability().version is not None
        assert (name in candidate_times.installed_targets("fp32")) is here
    everything = targets.Availability("1")
    monkeypatch.setattr("paraexport.targets.ort.target.available.availability", lambda provider: everything)
    assert {*NAMES} <= {*candidate_times.installed_targets("fp32")}
    assert "onnxruntime-cuda" not in candidate_times.installed_targets("int8")
    assert "onnxruntime-tensorrt" not in candidate_times.installed_targets("fp16")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_float32_for_tensorrt_has_attention_written_out_and_compiles(layout: str, tmp_path: Path) -> None:
    """Its providers offer no way to make `Attention` decomposable, as `targets.trt` does."""
    content, model = traced(SMALL)
    (tmp_path / "traced").mkdir()
    (tmp_path / "traced/model.onnx").write_bytes(content)
    rewrite(tmp_path / "traced/model.onnx", layout, tmp_path / layout, opset=20)
    proto = onnx.load(tmp_path / layout / "model.onnx")
    assert "Attention" not in {node.op_type for node in proto.graph.node}
    assert {item.domain: item.version for item in proto.opset_import}[""] == 20
    images = np.random.default_rng(0).standard_normal((3, 1, 8, 8), np.float32)
    session = onnxruntime.InferenceSession(tmp_path / layout / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": images})
    import torch

    with torch.no_grad():
        expected = model(torch.from_numpy(images)).numpy()
    assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()
    compile_here(tmp_path / layout)


@pytest.mark.parametrize("provider", [TENSORRT, RTX], ids=NAMES[1:])
def test_one_profile_holds_every_batch(provider: Provider) -> None:
    workload = Workload(image=(3, 224, 160), max_batch=32)
    given = provider.options(workload)
    shapes = {name.split("_")[2]: value for name, value in given.items() if "_profile_" in name}
    assert shapes == {"min": "images:1x3x224x160", "opt": "images:8x3x224x160", "max": "images:32x3x224x160"}
    few = provider.options(Workload(image=(3, 4, 4), max_batch=2))
    assert [value for name, value in few.items() if name.endswith("opt_shapes")] == ["images:2x3x4x4"]


@pytest.mark.parametrize("provider", GPU, ids=NAMES)
def test_every_option_is_one_that_the_library_knows(provider: Provider) -> None:
    known = (Path(__file__).parent / f"api/{provider.name}.txt").read_text(encoding="utf-8").splitlines()
    for precision in ("fp32", "int8"):
        workload = dataclasses.replace(WORKLOAD, precision=precision)
        assert provider.options(workload).keys() <= {*known}


def test_what_the_binding_wants_as_true_or_false_is_given_so() -> None:
    """It raises at "1", and with that no session of TensorRT's provider opens."""
    file = Path(__file__).parent / "api/onnxruntime-tensorrt-true-or-false.txt"
    wanted = {*file.read_text(encoding="utf-8").split()}
    given = TENSORRT.options(dataclasses.replace(WORKLOAD, precision="int8"))
    switches = {name: value for name, value in given.items() if name in wanted}
    assert {"trt_engine_cache_enable", "trt_int8_enable", "trt_timing_cache_enable"} <= switches.keys()
    assert {*switches.values()} <= {"True", "False"}


def test_other_weights_have_another_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT's provider names an engine after the graph, and would answer with the weights of another model."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = tmp_path / "model.onnx"
    folders = set()
    for content in (b"one", b"other"):
        model.write_bytes(content)
        for workload in (WORKLOAD, dataclasses.replace(WORKLOAD, max_batch=9)):
            folder = gpu.engine_folder(TENSORRT, model, workload)
            assert folder == gpu.engine_folder(TENSORRT, model, workload)
            assert folder.is_dir()
            folders.add(folder)
    (tmp_path / "model.onnx.data").write_bytes(b"weights beside it")
    folders.add(gpu.engine_folder(TENSORRT, model, WORKLOAD))
    assert len(folders) == 5


def test_every_provider_is_a_target_under_its_name() -> None:
    assert [*PROVIDERS] == ["onnxruntime", *NAMES]
    assert all(targets.get(name).name == name for name in PROVIDERS)
