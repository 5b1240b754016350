"""Whether a provider of ONNX Runtime can run here, and if not, which of all that it needs is missing."""

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
from paraexport.targets.ort.provider import CUDA, PROVIDERS, Provider
from paraexport.targets.target import Availability
from paraexport.targets.trt.device import Device, find_device

BUILDS = ("onnxruntime", "onnxruntime-gpu")
"""They install the same module: of two, the last one is there, with files of the other."""
ELSEWHERE = "run where an NVIDIA GPU is, or take --target onnxruntime"
LOADING = "from paraexport.targets.ort.available import serve; serve(*sys.argv[2:])"
"""With the name of a target."""
LOAD_AT_MOST_S = 120.0
MOST_CHARACTERS = 250


@dataclass(frozen=True)
class Lack:
    """Something that is missing, and how to get it."""

    missing: str
    remedy: str


def availability(provider: Provider) -> Availability:
    try:
        import onnxruntime
    except Exception as error:  # a broken library may raise anything
        reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        return Availability(None, f"onnxruntime cannot be imported: {reason}", provider.remedy)
    lack = lack_of(provider) if provider.on_gpu else None
    if lack is not None:
        return Availability(None, lack.missing, lack.remedy)
    return Availability(str(onnxruntime.__version__))


def lack_of(provider: Provider) -> Lack | None:
    """The first that is missing, what is hardest to get before the rest: a GPU, the package, the libraries."""
    if isinstance(device := find_device(), str):
        return Lack(device, ELSEWHERE)
    if (lack := lack_of_plugin(provider) if provider.plugin else lack_of_build(provider)) is not None:
        return lack
    if not provider.plugin:
        return lack_of_driver(device) or lack_of_libraries(provider)
    try:
        known = plugin_devices(provider)
    except Exception as error:  # the plugin may raise anything
        return Lack(f"{provider.plugin} cannot be loaded: {one_line(error)}", provider.remedy)
    return None if known else Lack(f"{provider.provider} does not know {device}", "take --target onnxruntime-cuda")


def lack_of_build(provider: Provider) -> Lack | None:
    """Whether the ONNX Runtime that is installed was built with the provider."""
    import onnxruntime

    if provider.provider in onnxruntime.get_available_providers():
        return None
    there = [name for name in BUILDS if installed(name)]
    missing = f"onnxruntime {onnxruntime.__version__} is a build without {provider.provider}"
    if len(there) > 1:
        missing = f"{' and '.join(there)} are both installed and overwrite each other: {missing}"
    return Lack(missing, f"pip uninstall {' '.join(there)}, then {provider.remedy}" if there else provider.remedy)


def lack_of_plugin(provider: Provider) -> Lack | None:
    import onnxruntime

    if not hasattr(onnxruntime, "get_ep_devices"):
        return Lack(f"onnxruntime {onnxruntime.__version__} takes no plugins", "pip install 'onnxruntime>=1.24'")
    if importlib.util.find_spec(provider.plugin) is None:
        return Lack(f"{provider.plugin} is not installed", "pip install 'paraexport[gpu-rtx]'")
    return None


def lack_of_driver(device: Device) -> Lack | None:
    """Whether the driver knows the CUDA that ONNX Runtime was built for; a later minor version does no harm."""
    if int(device.driver.partition(".")[0]) >= int(cuda_version()):
        return None
    return Lack(f"onnxruntime is built for CUDA {cuda_version()}, and the GPU is {device}", "update the driver")


def cuda_version() -> str:
    """The major one of the wheel, `13`."""
    import onnxruntime

    return str(getattr(onnxruntime, "cuda_version", "") or "13").partition(".")[0]


def installed(name: str) -> bool:
    return bool([*importlib.metadata.distributions(name=name)])


@functools.cache
def lack_of_libraries(provider: Provider) -> Lack | None:
    """Whether the provider's library finds those that it links, tried in a process of its own.

    Not in this one: ONNX Runtime must be the first to load it, or it is left without its host.
    """
    try:
        command = process.command(LOADING, provider.name)
        done = subprocess.run(command, capture_output=True, text=True, timeout=LOAD_AT_MOST_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return Lack(f"{provider.provider} was not loaded within {LOAD_AT_MOST_S:g} s", provider.remedy)
    if not done.returncode:
        return None
    told = (done.stdout.strip() or done.stderr.strip()).splitlines()
    reason = told[-1] if told else f"the process ended with code {done.returncode}"
    return Lack(f"{provider.provider} cannot be loaded: {reason}", remedy_for(provider, reason))


def remedy_for(provider: Provider, reason: str) -> str:
    if "nvinfer" in reason or "nvonnxparser" in reason:
        return f"pip install 'tensorrt-cu{cuda_version()}>=10.14,<11'"
    return CUDA.remedy if provider.library else provider.remedy


def serve(name: str) -> None:
    """Load the library of the target called `name`, or print why it cannot be loaded and exit with 1."""
    import onnxruntime

    provider = PROVIDERS[name]
    preload(provider)
    beside = Path(onnxruntime.__file__).parent / "capi"
    try:
        for wanted in ("onnxruntime_providers_shared", provider.library):
            (file,) = beside.glob(f"*{wanted}.*")
            ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL)
    except (OSError, ValueError) as error:
        print(one_line(error))
        sys.exit(1)


@functools.cache
def preload(provider: Provider) -> None:
    """Load the libraries of pip's NVIDIA packages, which no search path leads to."""
    import onnxruntime

    for package in provider.preload:
        with contextlib.suppress(Exception):  # it may be on the system's own path
            importlib.import_module(package)
    if provider.library:
        # What it cannot load it prints; whoever needs that library says so.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            onnxruntime.preload_dlls()


def plugin_devices(provider: Provider) -> list[Any]:
    """The GPUs that the plugin can use; ONNX Runtime knows the plugin from then on."""
    import onnxruntime

    register(provider.plugin)
    return [one for one in onnxruntime.get_ep_devices() if one.ep_name == provider.provider]


@functools.cache
def register(plugin: str) -> None:
    import onnxruntime

    package = importlib.import_module(plugin)
    onnxruntime.register_execution_provider_library(package.get_ep_name(), package.get_library_path())


def version_of(module: str) -> str:
    """The version of a module that is loaded; empty where it is not."""
    return str(getattr(sys.modules.get(module), "__version__", ""))


def one_line(error: Exception) -> str:
    """The end of what it says: ONNX Runtime begins with the place in its own source."""
    return on_one_line(error)[-MOST_CHARACTERS:]
