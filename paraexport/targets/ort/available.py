"""Checks whether a provider of ONNX Runtime can run here, and if not, finds what is missing."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import importlib.util
import io
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paraexport.errors import on_one_line
from paraexport.system import process
from paraexport.system.extras import install
from paraexport.targets.ort.provider import CUDA, PROVIDERS, Provider
from paraexport.targets.target import Availability
from paraexport.targets.trt.device import Device, find_device

BUILDS = ("onnxruntime", "onnxruntime-gpu")
"""These packages install the same module. If both are installed, their files are mixed."""
ELSEWHERE = "run on a machine with an NVIDIA GPU, or use --target onnxruntime"
LOADING = "from paraexport.targets.ort.available import serve; serve(*sys.argv[2:])"
"""Python code of a process that gets the name of a target as its argument."""
LOAD_AT_MOST_S = 120.0
MOST_CHARACTERS = 250


@dataclass(frozen=True)
class MissingItem:
    """Something that is missing here, and how to get it."""

    missing: str
    remedy: str


def availability(provider: Provider) -> Availability:
    try:
        import onnxruntime
    except Exception as error:  # a broken library may raise anything
        reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        return Availability(None, f"onnxruntime cannot be imported: {reason}", provider.remedy)
    item = find_missing(provider) if provider.on_gpu else None
    if item is not None:
        return Availability(None, item.missing, item.remedy)
    return Availability(str(onnxruntime.__version__))


def find_missing(provider: Provider) -> MissingItem | None:
    """The first missing item. The order is: GPU, package, libraries, so the hardest to get comes first."""
    if isinstance(device := find_device(), str):
        return MissingItem(device, ELSEWHERE)
    if (item := missing_plugin(provider) if provider.plugin else missing_build(provider)) is not None:
        return item
    if not provider.plugin:
        return missing_driver(device) or missing_libraries(provider)
    try:
        devices = plugin_devices(provider)
    except Exception as error:  # the plugin may raise anything
        return MissingItem(f"{provider.plugin} cannot be loaded: {one_line(error)}", provider.remedy)
    if devices:
        return None
    return MissingItem(f"{provider.provider} does not support {device}", "use --target onnxruntime-cuda")


def missing_build(provider: Provider) -> MissingItem | None:
    """What is wrong if the installed ONNX Runtime was built without the provider."""
    import onnxruntime

    if provider.provider in onnxruntime.get_available_providers():
        return None
    packages = [name for name in BUILDS if is_installed(name)]
    missing = f"onnxruntime {onnxruntime.__version__} is a build without {provider.provider}"
    if len(packages) > 1:
        missing = f"{' and '.join(packages)} are both installed and overwrite each other: {missing}"
    remedy = f"pip uninstall {' '.join(packages)}, then {provider.remedy}" if packages else provider.remedy
    return MissingItem(missing, remedy)


def missing_plugin(provider: Provider) -> MissingItem | None:
    import onnxruntime

    if not hasattr(onnxruntime, "get_ep_devices"):
        missing = f"onnxruntime {onnxruntime.__version__} does not support plugins"
        return MissingItem(missing, "pip install 'onnxruntime>=1.24'")
    if importlib.util.find_spec(provider.plugin) is None:
        return MissingItem(f"{provider.plugin} is not installed", install("gpu-rtx"))
    return None


def missing_driver(device: Device) -> MissingItem | None:
    """What is wrong if the driver is older than the CUDA of ONNX Runtime. Only the major version matters."""
    if int(device.driver.partition(".")[0]) >= int(cuda_version()):
        return None
    return MissingItem(f"onnxruntime is built for CUDA {cuda_version()}, and the GPU is {device}", "update the driver")


def cuda_version() -> str:
    """The major version of CUDA that the wheel was built for, as `13`."""
    import onnxruntime

    return str(getattr(onnxruntime, "cuda_version", "") or "13").partition(".")[0]


def is_installed(name: str) -> bool:
    return bool([*importlib.metadata.distributions(name=name)])


@functools.cache
def missing_libraries(provider: Provider) -> MissingItem | None:
    """What is wrong if the provider's library does not find the libraries that it links.

    A separate process tries this. In this process ONNX Runtime must load the library first, because the library needs
    its host.
    """
    try:
        command = process.command(LOADING, provider.name)
        done = subprocess.run(command, capture_output=True, text=True, timeout=LOAD_AT_MOST_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return MissingItem(f"{provider.provider} was not loaded within {LOAD_AT_MOST_S:g} s", provider.remedy)
    if not done.returncode:
        return None
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    reason = lines[-1] if lines else f"the process ended with code {done.returncode}"
    return MissingItem(f"{provider.provider} cannot be loaded: {reason}", remedy_for(provider, reason))


def remedy_for(provider: Provider, reason: str) -> str:
    if "nvinfer" in reason or "nvonnxparser" in reason:
        return f"pip install 'tensorrt-cu{cuda_version()}>=10.14,<11'"
    return CUDA.remedy if provider.library else provider.remedy


def serve(name: str) -> None:
    """Load the library of the target called `name`. If that fails, print the reason and exit with 1."""
    import onnxruntime

    provider = PROVIDERS[name]
    preload(provider)
    folder = Path(onnxruntime.__file__).parent / "capi"
    try:
        for library in ("onnxruntime_providers_shared", provider.library):
            (file,) = folder.glob(f"*{library}.*")
            ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL)
    except (OSError, ValueError) as error:
        print(one_line(error))
        sys.exit(1)


@functools.cache
def preload(provider: Provider) -> None:
    """Load the libraries of pip's NVIDIA packages, which are in no search path."""
    import onnxruntime

    for package in provider.preload:
        with contextlib.suppress(Exception):  # the library may be in the system's own path
            importlib.import_module(package)
    if provider.library:
        # It prints the libraries that it cannot load. Hide that: code that needs one of them reports it.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            onnxruntime.preload_dlls()


def plugin_devices(provider: Provider) -> list[Any]:
    """The GPUs that the plugin can use. This registers the plugin with ONNX Runtime."""
    import onnxruntime

    register(provider.plugin)
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == provider.provider]


@functools.cache
def register(plugin: str) -> None:
    import onnxruntime

    package = importlib.import_module(plugin)
    onnxruntime.register_execution_provider_library(package.get_ep_name(), package.get_library_path())


def version_of(module: str) -> str:
    """The version of a loaded module; empty if it is not loaded."""
    return str(getattr(sys.modules.get(module), "__version__", ""))


def one_line(error: Exception) -> str:
    """The end of the message: messages of ONNX Runtime begin with the place in its source code."""
    return on_one_line(error)[-MOST_CHARACTERS:]
