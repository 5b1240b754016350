"""Reads engine.json and inspections, and finds the reasons why an engine cannot run."""

from __future__ import annotations

import ctypes
import dataclasses
import importlib.metadata
import json
import sys
import types
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paraexport.errors import BundleError, EngineError, MissingError
from paraexport.targets.compilation import EngineInfo, EngineLayer, EngineOptions, Inspection
from paraexport.targets.folder import Folder
from paraexport.targets.profiles import Profile
from paraexport.targets.target import NOT_REPORTED, Workload
from paraexport.targets.trt import build, info, plan
from paraexport.targets.trt.device import Device, Driver, find_device
from paraexport.targets.trt.flavour import RTX, TENSORRT
from paraexport.targets.trt.loaded import unreadable_engine
from paraexport.targets.trt.logger import logger_of, start
from paraexport.targets.trt.target import TensorRT
from paraexport.targets.versions import release
from tests.targets.engines import compile_here, require_rtx, save, tensorrt_rtx

tensorrt = TensorRT(TENSORRT)
L4 = Device("NVIDIA L4", "8.9", "13.0")
BUILT = EngineInfo(
    runtime="TensorRT", version="10.16.1.11", built_for=("8.9",), built_on=str(L4), profiles=(Profile(1, 8, 64),),
    options=EngineOptions(), network_layers=100, products={}, fused_attention=False, size_bytes=10, inspection=None,
    not_inspected="", warnings=(),
)  # fmt: skip


def obstacles(version: str = BUILT.version, device: Device | str = L4, **fields: object) -> list[str]:
    text = dataclasses.replace(BUILT, **fields)  # type: ignore[arg-type]
    return [*info.obstacles(text, version, device, TENSORRT.unusable(None, device))]


def test_nothing_stands_against_the_same_version_and_gpu() -> None:
    assert obstacles() == []


def test_another_version_is_named_with_the_one_that_is_here() -> None:
    (reason,) = obstacles("10.15.1.29")
    assert reason == "it was compiled by TensorRT 10.16.1.11, and 10.15.1.29 is here: it runs only on the same version"


@pytest.mark.parametrize(("version", "runs"), [("10.16.2.0", True), ("11.4.0.106", True), ("10.15.1.29", False)])
def test_a_version_compatible_engine_runs_on_later_ones(version: str, runs: bool) -> None:
    assert (obstacles(version, options=EngineOptions(version_compatible=True)) == []) is runs


def test_another_compute_capability_is_named_with_the_gpu() -> None:
    (reason,) = obstacles(device=Device("NVIDIA H100", "9.0", "13.0"))
    assert reason == "it was compiled for compute capability 8.9, and NVIDIA H100 has 9.0"
    assert obstacles(device=Device("NVIDIA L40", "8.9", "13.0")) == []


@pytest.mark.parametrize(("capability", "runs"), [("9.0", True), ("8.0", True), ("7.5", False)])
def test_a_hardware_compatible_engine_runs_on_ampere_and_later(capability: str, runs: bool) -> None:
    device = Device("some GPU", capability, "13.0")
    assert (obstacles(device=device, options=EngineOptions(hardware_compatible=True)) == []) is runs


def test_an_engine_for_several_gpus_runs_on_each() -> None:
    some = ("8.6", "8.9")
    assert obstacles(built_for=some) == []
    (reason,) = obstacles(device=Device("A100", "8.0", "13.0"), built_for=some)
    assert "8.6 and 8.9" in reason
    assert obstacles(device=Device("A100", "8.0", "13.0"), built_for=()) == []


def test_everything_that_stands_against_it_is_told_at_once() -> None:
    assert len(obstacles("11.0.0", "there is no NVIDIA driver here")) == 2
    assert obstacles(device="there is no NVIDIA driver here") == ["there is no NVIDIA driver here"]


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    layer = EngineLayer("a", "gemm", ("Half",), ("Int8", "Int8"), ("branches.0/fc1/MatMul",))
    text = dataclasses.replace(BUILT, inspection=Inspection((layer,), 2, 1000), products={"a": ("int8", "int8")})
    info.write(tmp_path, text)
    (tmp_path / info.ENGINE).write_bytes(b"plan")
    assert info.read(Folder(tmp_path)) == text
    assert tensorrt.int8_products(Folder(tmp_path)) == frozenset({"branches.0/fc1/MatMul"})
    (tmp_path / info.INFO).write_text("{}")
    with pytest.raises(BundleError, match="malformed"):
        info.read(Folder(tmp_path))
    (tmp_path / info.ENGINE).unlink()
    with pytest.raises(BundleError, match=r"expected model\.engine in it"):
        info.read(Folder(tmp_path))


def inspected(**inputs: str) -> dict[str, object]:
    """The form of NVIDIA's documents: "Engine Inspector", and for 11.x "Migrating IEngineInspector Usage"."""
    tensor = {"Name": "x", "Location": "Device", "Dimensions": [8, 64], **inputs}
    return {
        "Layers": [
            {
                "Name": "fc1 + gelu",
                "LayerType": "gemm",
                "Inputs": [tensor],
                "Outputs": [tensor],
                "TacticName": "sm80_xmma",
                "StreamId": 0,
                "Metadata": "[ONNX Layer: branches.0/fc1/MatMul]\x1f[ONNX Layer: branches.0/gelu/Gelu]",
            }
        ]
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"},
        {"DataType": "Int8", "Format": "Row major linear"},
    ],
    ids=["10.x", "11.x"],
)
def test_the_inspectors_layers_tell_nodes_and_types(fields: dict[str, str]) -> None:
    (layer,) = info.layers(inspected(**fields))
    assert layer.nodes == ("branches.0/fc1/MatMul", "branches.0/gelu/Gelu")
    assert (layer.kind, layer.inputs) == ("gemm", (next(iter(fields.values())),))
    assert info.nodes_in_int8(Inspection((layer,), 0, 0)) == set(layer.nodes)
    (half,) = info.layers(inspected(DataType="Half"))
    assert info.nodes_in_int8(Inspection((half,), 0, 0)) == set()


def test_a_node_is_in_int8_where_it_is_so_in_every_profile() -> None:
    both, first = ("branches.0/fc1/MatMul",), ("branches.0/fc2/MatMul",)
    layers = (
        EngineLayer("fc1", "gemm", ("Half",), ("Int8",), both),
        EngineLayer("fc2", "gemm", ("Half",), ("Int8",), first),
        EngineLayer("fc1 [profile 1]", "gemm", ("Half",), ("Int8",), both),
        EngineLayer("fc2 [profile 1]", "gemm", ("Half",), ("Half",), first),
    )
    assert info.nodes_in_int8(Inspection(layers, 0, 0)) == {*both}
    assert info.nodes_in_int8(Inspection(layers[:2], 0, 0)) == {*both, *first}


def test_layers_that_are_only_named_say_nothing_more() -> None:
    assert [*info.layers({"Layers": ["a + b"]})] == [EngineLayer("a + b", "", (), (), ())]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"Layers": [1]}', '{"Layers": [{"Inputs": []}]}'])
def test_an_account_in_another_form_tells_of_no_layers(text: str) -> None:
    assert info.read_layers(text) == ()


def test_an_account_with_control_characters_is_read() -> None:
    """The documents show them escaped between the nodes of a layer, but do not guarantee it."""
    text = json.dumps(inspected(DataType="Int8"))
    (layer,) = info.read_layers(text)
    assert info.read_layers(text.replace("\\u001f", "\x1f")) == (layer,)
    assert layer.nodes == ("branches.0/fc1/MatMul", "branches.0/gelu/Gelu")


@pytest.mark.parametrize(
    ("products", "expected"),
    [({"fc1": ("int8", "int8"), "fc2": ("half", "half")}, frozenset({"fc1"})), ({}, NOT_REPORTED)],
)
def test_where_the_inspector_names_no_nodes_the_plan_is_asked(
    products: dict[str, tuple[str, ...]], expected: frozenset[str] | str, tmp_path: Path
) -> None:
    """Reporting that nothing is in int8 would fail the build of a correct engine."""
    layer = EngineLayer("__myl_Fc", "kgen", ("Half",), ("Int8",), ())
    for layers in ((layer,), ()):
        info.write(tmp_path, dataclasses.replace(BUILT, inspection=Inspection(layers, 0, 0), products=products))
        (tmp_path / info.ENGINE).write_bytes(b"plan")
        assert tensorrt.int8_products(Folder(tmp_path)) == expected


def test_a_plan_that_lists_nothing_lists_nothing() -> None:
    assert plan.products(b"\0ptrt" + bytes(range(256)), 1) == {}


@pytest.mark.parametrize("version", ["8.6.1", "9.3.0.1", "10.12.0.36"])
def test_an_old_tensorrt_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old = types.ModuleType("tensorrt")
    old.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    found = tensorrt.availability()
    assert found.version is None
    assert found.missing == f"TensorRT {version} is too old, 10.13 or later is needed"
    assert found.remedy == TENSORRT.remedy
    with pytest.raises(MissingError, match="too old"):
        TENSORRT.load()


def test_a_broken_tensorrt_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", types.ModuleType("tensorrt_rtx"))
    assert "cannot be imported: AttributeError" in RTX.availability().missing


@pytest.mark.parametrize(
    ("said", "kind", "what"),
    [
        ("CUDA driver version is insufficient for CUDA runtime version", MissingError, "driver is too old"),
        ("Error Code 2: OutOfMemory (Requested size was 11341332 bytes.)", MissingError, "no memory left"),
        ("Magic tag does not match", BundleError, "cannot read the engine"),
    ],
)
def test_an_engine_that_does_not_open_says_why(said: str, kind: type[Exception], what: str, tmp_path: Path) -> None:
    found = unreadable_engine(tmp_path, said)
    assert isinstance(found, kind)
    assert what in str(found)
    assert said in str(found)


OLD = "CUDA initialization failure with error: 35. CUDA driver version is insufficient for CUDA runtime version"


@pytest.mark.parametrize(
    ("said", "options", "kind", "remedy"),
    [
        ("Unexpected exception std::bad_alloc", EngineOptions(), EngineError, "free memory of this machine"),
        ("OutOfMemory (Requested size was 9 bytes.)", EngineOptions(), EngineError, "a --max-batch below 64, or"),
        ("insufficient workspace", EngineOptions(workspace_mib=3), EngineError, "more than --engine workspace_mib=3"),
        (OLD, EngineOptions(), MissingError, "update the driver"),
        ("Could not find any implementation", EngineOptions(), EngineError, "another --layout or --precision"),
    ],
)
def test_a_build_that_fails_says_what_to_lower(
    said: str, options: EngineOptions, kind: type[Exception], remedy: str
) -> None:
    """The first message is that of TensorRT-RTX 1.7 if the process is limited to 400 MiB of memory."""
    found = build.failure(TENSORRT, said, options, 64)
    assert type(found) is kind
    assert said in str(found)
    assert remedy in str(found)


def test_a_tensorrt_that_cannot_start_says_why() -> None:
    """Its bindings raise a TypeError then, and the reason is in the log."""
    require_rtx()
    trt = RTX.load()
    logger = logger_of(trt)

    def nothing(_: object) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    for said, words in ((OLD, "the NVIDIA driver is too old .*35"), ("no reason", "TensorRT cannot start .*no reason")):
        logger.clear()
        logger.log(trt.ILogger.ERROR, said)
        with pytest.raises(MissingError, match=words):
            start(nothing, logger)
    assert start(trt.Builder, logger) is not None


def test_a_gpu_that_tensorrt_rtx_does_not_know_can_be_built_for_and_not_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    require_rtx()
    monkeypatch.setattr("paraexport.targets.trt.flavour.find_device", lambda: Device("NVIDIA H100", "9.0", "13.0"))
    found = RTX.availability()
    assert found.version is not None
    assert found.idle == "TensorRT-RTX does not support NVIDIA H100, compute capability 9.0"
    monkeypatch.setattr("paraexport.targets.trt.flavour.find_device", lambda: L4)
    assert RTX.availability().idle == ""


OLD_DRIVER = Device("NVIDIA L4", "8.9", "12.9")


def test_a_driver_that_is_older_than_the_wheel_is_told_and_engines_are_still_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT-RTX for CUDA 13 reports `cudaError 35: CUDA driver version is insufficient` with a driver for 12.9."""
    require_rtx()
    if f"tensorrt_rtx_cu13=={RTX.library().version}" not in (importlib.metadata.requires("tensorrt_rtx") or ()):
        pytest.skip("TensorRT-RTX here is none for CUDA 13")
    for module in ("flavour", "build", "session"):
        monkeypatch.setattr(f"paraexport.targets.trt.{module}.find_device", lambda: OLD_DRIVER)
    reason = f"TensorRT-RTX is built for CUDA 13, and the GPU is {OLD_DRIVER}: update the driver"
    assert (RTX.availability().missing, RTX.availability().idle) == ("", reason)
    text = "g (float[batch,4] images) => (float[batch,4] logits) { logits = MatMul(images, w) }"
    folder = save(tmp_path / "graph", text, w=np.ones((4, 4), np.float32))
    assert compile_here(folder).not_inspected == reason
    with pytest.raises(MissingError, match=r"cannot run here: TensorRT-RTX is built for CUDA 13.*--target onnxruntime"):
        tensorrt_rtx.open_session(Folder(folder), Workload(image=(4,), max_batch=1))


@pytest.mark.parametrize(
    ("needed", "driver", "fits"),
    [
        (["tensorrt_cu13==10.16.1.11"], "13.0", True),
        (["tensorrt_cu13==10.16.1.11"], "12.9", False),
        (["tensorrt-cu12==10.13.3.9"], "12.9", True),
        (["numpy"], "12.0", True),
        (None, "12.0", True),
    ],
)
def test_the_driver_must_know_the_cuda_of_the_wheel(
    needed: list[str] | None, driver: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: needed)
    assert (TENSORRT.unusable(None, Device("NVIDIA L4", "8.9", driver)) == "") is fits


def test_an_engine_that_is_not_read_back_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a driver, the CUDA runtime in TensorRT-RTX reports that the driver is too old."""
    if isinstance(find_device(), Device):
        pytest.skip("there is a GPU here")
    monkeypatch.setattr("paraexport.targets.trt.build.find_device", lambda: L4)
    text = "g (float[batch,4] images) => (float[batch,4] logits) { logits = MatMul(images, w) }"
    folder = save(tmp_path / "graph", text, w=np.ones((4, 4), np.float32))
    with pytest.raises(MissingError, match=r"model\.engine: the NVIDIA driver is too old .*update the driver"):
        compile_here(folder)


def test_an_engine_for_another_gpu_is_built_and_its_obstacle_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read back from it, since it cannot be opened here."""
    for module in ("build", "session"):
        monkeypatch.setattr(f"paraexport.targets.trt.{module}.find_device", lambda: L4)
    text = "g (float[batch,4] images) => (float[batch,4] logits) { logits = MatMul(images, w) }"
    folder = save(tmp_path / "graph", text, w=np.ones((4, 4), np.float32))
    engine_info = compile_here(folder, EngineOptions(compute_capabilities=("12.0",)))
    reason = "it was compiled for compute capability 12.0, and NVIDIA L4 has 8.9"
    assert (engine_info.not_inspected, engine_info.built_on, tensorrt_rtx.obstacle(Folder(folder))) == (
        reason,
        str(L4),
        reason,
    )
    with pytest.raises(
        MissingError, match=f"{reason}; run it on a machine that it was built for, .* --target tensorrt-rtx"
    ):
        tensorrt_rtx.open_session(Folder(folder), Workload(image=(4,), max_batch=1))


def test_versions_are_compared_by_their_numbers() -> None:
    assert release("9.9") < release("10.13") < release("10.16.1.11") < release("11.4.0.106")


def test_without_a_driver_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert find_device() == "there is no NVIDIA driver here"
    with pytest.raises(MissingError, match="there is no NVIDIA driver here; install one"):
        Driver()


def test_a_driver_without_a_function_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another library plays the driver; it has no CUDA functions."""
    monkeypatch.setattr("paraexport.targets.trt.device.LIBRARY", find_library("m"))
    assert find_device() == "the NVIDIA driver is too old"
    with pytest.raises(MissingError, match=r"cuInit: the NVIDIA driver is too old .*; update the driver"):
        Driver()


class Library:
    """A driver library with one GPU, whose functions return `code`, apart from a few that work."""

    def __init__(self, code: int, working: tuple[str, ...] = ()) -> None:
        self.code, self.working = code, working

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = int("cuDeviceGetCount" in self.working)
        return 0 if count._obj.value else self.code

    def cuGetErrorName(self, code: int, name: Any) -> int:  # noqa: N802
        name._obj.value = {803: b"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", 999: b"CUDA_ERROR_UNKNOWN"}.get(code)
        return 0

    def __getattr__(self, name: str) -> object:
        return lambda *_: 0 if name in self.working else self.code


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (100, "the NVIDIA driver finds no GPU"),
        (2, "the GPU has no memory left"),
        (803, "the NVIDIA driver fails with CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)"),
        (1234, "the NVIDIA driver fails with error 1234"),
        (0, "the NVIDIA driver finds no GPU"),  # nothing fails, and there are 0 devices
    ],
)
def test_a_driver_that_fails_is_told(code: int, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library(code))
    assert find_device() == reason


def test_a_gpu_that_fails_when_it_is_asked_its_name_is_told_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library(999, ("cuInit", "cuDeviceGetCount")))
    assert find_device() == "the NVIDIA driver fails with CUDA_ERROR_UNKNOWN (999)"


@pytest.mark.parametrize(("code", "remedy"), [(803, "update the driver"), (999, "start the program again")])
def test_the_driver_is_to_be_updated_only_where_that_may_help(
    code: int, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library(code))
    with pytest.raises(
        MissingError, match=rf"cuInit: the NVIDIA driver fails with CUDA_ERROR_\w+ \({code}\); {remedy}"
    ):
        Driver()
