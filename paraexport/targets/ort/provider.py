"""Lists the differences between ONNX Runtime's execution providers. All other code in `targets.ort` is shared.

The options are documented at https://onnxruntime.ai/docs/execution-providers, and for TensorRT-RTX at
https://nvidia.github.io/TensorRT-RTX-EP-ABI. `tests/targets/api` lists the names that the libraries themselves accept.
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
    """One execution provider: its names, its needs, its options, and the dialect of its graphs."""

    name: str
    """The name of the target, `onnxruntime-cuda`."""
    provider: str
    """The name in ONNX Runtime, `CUDAExecutionProvider`."""
    dialect: Dialect
    remedy: str
    """How to install it."""
    options: Callable[[Workload, Path], Options] = lambda workload, cache: {}  # noqa: ARG005
    """(workload, cache folder of this model) -> the provider's options."""
    library: str = ""
    """Its library in the wheel, `onnxruntime_providers_cuda`; empty if it is in ONNX Runtime itself or in a plugin."""
    plugin: str = ""
    """The Python package with the plugin; empty if it is no plugin."""
    preload: tuple[str, ...] = ()
    """Python packages that load the shared libraries that it links."""
    compiles: bool = False
    """It compiles the whole graph to one engine, and does its own optimising."""

    @property
    def on_gpu(self) -> bool:
        return self.provider != "CPUExecutionProvider"


def cuda_options(workload: Workload, cache: Path) -> Options:  # noqa: ARG001 (of `Provider.options`)
    return {"device_id": "0", "use_tf32": "0"}


def tensorrt_options(workload: Workload, cache: Path) -> Options:
    # The Python binding parses these options itself. It accepts only "True" or "False"; "1" is an error.
    caches = {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(cache)}
    timings = {"trt_timing_cache_enable": "True", "trt_timing_cache_path": str(cache)}
    integers = {"trt_int8_enable": "True"} if workload.precision == "int8" else {}
    return {"device_id": "0", **profile("trt", workload), **integers, **caches, **timings}


def rtx_options(workload: Workload, cache: Path) -> Options:
    return {**profile("nv", workload), "nv_runtime_cache_path": str(cache)}


def profile(prefix: str, workload: Workload) -> Options:
    """The batch sizes that the engine accepts. Without them TensorRT builds an engine again for each new size."""
    batches = {"min": 1, "opt": min(OPTIMUM, workload.max_batch), "max": workload.max_batch}
    shapes = {end: "x".join(map(str, (batch, *workload.image))) for end, batch in batches.items()}
    return {f"{prefix}_profile_{end}_shapes": f"{INPUT}:{shape}" for end, shape in shapes.items()}


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
    # Its only integer product is MatMulInteger of int8 and int8. With Q/DQ, the product itself runs in float32.
    dialect=Dialect(signed=True, refuses={"int8": "ONNX Runtime's CUDA provider multiplies Q/DQ in float32"}),
    remedy="pip install 'paraexport[gpu]'",
    options=cuda_options,
    library="onnxruntime_providers_cuda",
)
WEAKLY_TYPED = (
    "ONNX Runtime's TensorRT provider builds weakly typed networks, in which TensorRT chooses each layer's type"
)
TENSORRT = Provider(
    name="onnxruntime-tensorrt",
    provider="TensorrtExecutionProvider",
    # Opset 20, which has no `Attention`: this provider does not let TensorRT decompose the node, and then TensorRT
    # cannot compile it in float32.
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
PROVIDERS = {provider.name: provider for provider in (CPU, CUDA, TENSORRT, RTX)}
