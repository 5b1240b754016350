"""Holds the differences between TensorRT 10.x, 11.x and TensorRT-RTX. All other code in `targets.trt` is shared.

Versions 10 and 11 differ in one thing only: STRONGLY_TYPED is bit 1 in one and bit 0 in the other. So flags are built
from the enumeration, `1 << int(...)`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass
from typing import Any

from paraexport.errors import EngineError, MissingError
from paraexport.system.extras import install
from paraexport.targets.target import Availability
from paraexport.targets.trt.device import Device, find_device
from paraexport.targets.versions import release


@dataclass(frozen=True)
class Flavour:
    """One of the two products: its Python module and its abilities."""

    name: str
    """The name of the target, `tensorrt-rtx`."""
    title: str
    module: str
    oldest: str
    """The first version that accepts our graphs."""
    extra: str
    """The extra of paraexport that installs it."""
    ahead_of_time: bool
    """It compiles for any GPU, without GPU or driver, and finishes kernels when they run. Otherwise it needs a GPU, and
    compiles for that one."""
    options: frozenset[str]
    """The fields of `EngineOptions` that it accepts."""

    @property
    def remedy(self) -> str:
        """How to install it."""
        return install(self.extra) + ("" if self.ahead_of_time else " on a machine with an NVIDIA GPU")

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def load(self) -> Any:
        """The Python module of TensorRT.

        Raises:
            MissingError: it is not installed, is broken, or too old.
        """
        library = self.library()
        if library.version is None:
            raise MissingError(library.missing, where=f"target {self.name}", remedy=library.remedy)
        return importlib.import_module(self.module)

    def library(self) -> Availability:
        """Whether the library can be used; this ignores the GPU."""
        try:
            version = str(importlib.import_module(self.module).__version__)
        except ImportError as error:
            return Availability(None, f"{self.module} cannot be imported: {error}", self.remedy)
        except Exception as error:  # a broken library may raise anything
            reason = f"{self.module} cannot be imported: {type(error).__name__}: {error}"
            return Availability(None, reason, self.remedy)
        if release(version) < release(self.oldest):
            missing = f"{self.title} {version} is too old, {self.oldest} or later is needed"
            return Availability(None, missing, self.remedy)
        return Availability(version)

    def availability(self) -> Availability:
        """Whether it can build here; `idle` says why its engines cannot run here."""
        library = self.library()
        if library.version is None:
            return library
        reason = self.unusable(importlib.import_module(self.module), find_device())
        if not reason:
            return library
        if not self.ahead_of_time:
            return Availability(None, f"{self.title} {library.version} is installed, but {reason}", GPU_REMEDY)
        return Availability(library.version, idle=reason)

    def unusable(self, trt: Any, device: Device | str) -> str:
        """Why no engine runs on the device; empty if engines run."""
        if isinstance(device, str):
            return device
        if self.ahead_of_time and device.compute_capability not in self.capabilities(trt):
            return f"{self.title} does not support {device.name}, compute capability {device.compute_capability}"
        if (cuda := self.needs_cuda()) is not None and release(device.driver) < (cuda,):
            return f"{self.title} is built for CUDA {cuda}, and the GPU is {device}: update the driver"
        return ""

    def needs_cuda(self) -> int | None:
        """The major version of CUDA that the wheel was built for. The driver must support it.

        None if the wheel's requirements do not show it.
        """
        try:
            needed = importlib.metadata.requires(self.module) or ()
        except importlib.metadata.PackageNotFoundError:
            return None
        matches = (re.match(rf"{self.module}_cu(\d+)\b", package.replace("-", "_")) for package in needed)
        return next((int(match[1]) for match in matches if match), None)

    def capabilities(self, trt: Any) -> dict[str, Any]:
        """`8.9` -> ComputeCapability.SM89, for each that it can compile for ahead of time."""
        members = trt.ComputeCapability.__members__.items()
        return {f"{name[2:-1]}.{name[-1]}": member for name, member in members if name.startswith("SM")}

    def capability(self, trt: Any, text: str) -> Any:
        """`8.9` -> ComputeCapability.SM89.

        Raises:
            EngineError: this version does not compile for it.
        """
        known = self.capabilities(trt)
        if text not in known:
            raise EngineError(
                f"{self.title} {trt.__version__} does not compile for compute capability {text}",
                where="--compute-capability",
                expected=f"some of {', '.join(known)}",
                got=text,
                remedy="choose one of these; other GPUs, such as H100 with 9.0, need --target tensorrt",
            )
        return known[text]

    def new_runtime_cache(self, engine: Any) -> Any:
        """The cache in which all contexts share kernels that are finished when they run; None if none are."""
        return engine.create_runtime_config().create_runtime_cache() if self.ahead_of_time else None

    def new_context(self, trt: Any, engine: Any, cache: Any, *, recording: bool) -> Any:
        """An execution context that uses memory of its caller, or None if TensorRT cannot create one.

        If kernels are finished when they run, the kernels for a shape change after its first runs. Then the context
        itself records CUDA graphs (with `recording`), because it knows when they are final.
        """
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not self.ahead_of_time:
            return engine.create_execution_context(strategy)
        runtime_config = engine.create_runtime_config()
        runtime_config.set_execution_context_allocation_strategy(strategy)
        runtime_config.set_runtime_cache(cache)
        if recording:
            runtime_config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return engine.create_execution_context(runtime_config)


GPU_REMEDY = "build on the kind of GPU that the engine will run on, or use --target tensorrt-rtx"
TENSORRT = Flavour(
    name="tensorrt",
    title="TensorRT",
    module="tensorrt",
    oldest="10.13",
    extra="tensorrt",
    ahead_of_time=False,
    options=frozenset(
        {
            "profiles", "workspace_mib", "optimization_level", "aux_streams", "version_compatible",
            "hardware_compatible", "stripped", "tf32", "cuda_graphs", "timing_cache",
        }
    ),
)  # fmt: skip
RTX = Flavour(
    name="tensorrt-rtx",
    title="TensorRT-RTX",
    module="tensorrt_rtx",
    oldest="1.7",
    extra="rtx",
    ahead_of_time=True,
    options=frozenset(
        {"compute_capabilities", "profiles", "workspace_mib", "optimization_level", "tf32", "cuda_graphs"}
    ),
)
