"""What differs between ONNX Runtime's execution providers; everything else of `targets.ort` is the same for all.

What each option does: https://onnxruntime.ai/docs/execution-providers, and for TensorRT-RTX
https://nvidia.github.io/TensorRT-RTX-EP-ABI. `tests/targets/api` lists the names that the libraries themselves know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from paraexport.model.spec import INPUT
from paraexport.targets.profiles import OPTIMUM
from paraexport.targets.target import Dialect, Workload

Options = Mapping[str, str]


@dataclass(frozen=True)
class Provider:
    """One execution provider: what it is called, what it wants, and what graph it is given."""

    name: str
    """Of the target: `onnxruntime-cuda`."""
    provider: str
    """`CUDAExecutionProvider`."""
    dialect: Dialect
    remedy: str
    """How to install it."""
    options: Callable[[Workload, Path], Options] = lambda workload, cache: {}  # noqa: ARG005
    """(workload, a folder for this very model) -> the provider's options."""
    library: str = ""
    """Of the wheel, that holds it: `onnxruntime_providers_cuda`; empty where it is in ONNX Runtime or in a plugin."""
    plugin: str = ""
    """The Python package that brings it as a plugin."""
    preload: tuple[str, ...] = ()
    """Python packages that load the shared libraries which it links."""
    compiles: bool = False
    """It makes one engine of the whole graph, and does its own optimising."""

    @property
    def on_gpu(self) -> bool:
        return self.provider != "CPUExecutionProvider"


def cuda_options(workload: Workload, cache: Path) -> Options:  # noqa: ARG001 (of `Provider.options`)
    return {"device_id": "0", "use_tf32": "0"}


def tensorrt_options(workload: Workload, cache: Path) -> Options:
    # The Python binding reads these options itself, and takes "True" or "False" alone: "1" is an error.
    caches = {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(cache)}
    timings = {"trt_timing_cache_enable": "True", "trt_timing_cache_path": str(cache)}
    integers = {"trt_int8_enable": "True"} if workload.precision == "int8" else {}
    return {"device_id": "0", **profile("trt", workload), **integers, **caches, **timings}


def rtx_options(workload: Workload, cache: Path) -> Options:
    return {**profile("nv", workload), "nv_runtime_cache_path": str(cache)}


def profile(prefix: str, workload: Workload) -> Options:
    """The batches that the engine takes. Without it TensorRT builds another engine whenever a batch is new."""
    sizes = {"min": 1, "opt": min(OPTIMUM, workload.max_batch), "max": workload.max_batch}
    shapes = {which: "x".join(map(str, (batch, *workload.image))) for which, batch in sizes.items()}
    return {f"{prefix}_profile_{which}_shapes": f"{INPUT}:{shape}" for which, shape in shapes.items()}


CPU = Provider(
    name="onnxruntime",
    provider="CPUExecutionProvider",
    dialect=Dialect(
        signed=False,
        own_operators=True,
        weights_only=("bf16",),
        half_runs_in="float32 on CPUs: no faster, half the file",
    ),
    remedy="pip install 'paraexport[cpu]'",
)
CUDA = Provider(
    name="onnxruntime-cuda",
    provider="CUDAExecutionProvider",
    # Its only product of integers is MatMulInteger of int8 and int8; Q/DQ stay around a product in float32.
    dialect=Dialect(signed=True, refuses={"int8": "ONNX Runtime's CUDA provider multiplies Q/DQ in float32"}),
    remedy="pip install 'paraexport[gpu]'",
    options=cuda_options,
    library="onnxruntime_providers_cuda",
)
WEAKLY_TYPED = (
    "ONNX Runtime's TensorRT provider builds weakly typed networks, in which TensorRT picks each layer's type"
)
TENSORRT = Provider(
    name="onnxruntime-tensorrt",
    provider="TensorrtExecutionProvider",
    # It leaves `Attention` not decomposable, which then does not compile in float32: opset 20 has none.
    dialect=Dialect(signed=True, opset=20, refuses=dict.fromkeys(("fp16", "bf16"), WEAKLY_TYPED)),
    remedy="pip install 'paraexport[gpu]', and TensorRT 10",
    options=tensorrt_options,
    library="onnxruntime_providers_tensorrt",
    preload=("tensorrt",),
    compiles=True,
)
RTX = Provider(
    name="onnxruntime-tensorrt-rtx",
    provider="NvTensorRTRTXExecutionProvider",
    dialect=Dialect(signed=True, opset=20),
    remedy="pip install 'paraexport[cpu,gpu-rtx]'",
    options=rtx_options,
    plugin="onnxruntime_ep_nv_tensorrt_rtx",
    compiles=True,
)
PROVIDERS = {one.name: one for one in (CPU, CUDA, TENSORRT, RTX)}
