"""Lists the differences between ONNX Runtime's execution providers. All other code in `targets.ort` is shared.

The options are documented at https://onnxruntime.ai/docs/execution-providers, and for TensorRT-RTX at
https://nvidia.github.io/TensorRT-RTX-EP-ABI. `tests/targets/api` lists the names that the libraries themselves accept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from paraexport.model.spec import INPUT
from paraexport.system.extras import install
from paraexport.targets.folder import MODEL
from paraexport.targets.ort.settings import NO_FALLBACK, OPTIMIZATION, SETTINGS, X64_PRECISION
from paraexport.targets.profiles import OPTIMUM
from paraexport.targets.runtime import CACHE, Known, Runtime, oldest
from paraexport.targets.target import Dialect, Workload

Options = Mapping[str, str]
TF32 = "NVIDIA_TF32_OVERRIDE"
"""0 switches TF32 off in NVIDIA's libraries, even if a program asks for it."""
MINIMUM_VERSIONS = {20: "1.19", 23: "1.23"}
"""By opset, as `python -m benchmarks.experiments.oldest_runtimes` finds them."""


@dataclass(frozen=True)
class Provider:
    """One execution provider: its names, its needs, its options, and the dialect of its graphs."""

    name: str
    """The name of the target, `onnxruntime-cuda`."""
    provider: str
    """The name in ONNX Runtime, `CUDAExecutionProvider`."""
    dialect: Dialect
    extras: tuple[str, ...]
    """The extras of paraexport that install it."""
    options: Callable[[Workload], Options] = lambda workload: {}  # noqa: ARG005
    """The provider's options. `{cache}` stands for a folder of this model, in which it caches engines."""
    library: str = ""
    """Its library in the wheel, `onnxruntime_providers_cuda`; empty if it is in ONNX Runtime itself or in a plugin."""
    plugin: str = ""
    """The Python package with the plugin; empty if it is no plugin."""
    preload: tuple[str, ...] = ()
    """Python packages that load the shared libraries that it links."""
    oldest: str = ""
    """The first version of ONNX Runtime with this provider, if it is younger than those for our opsets."""
    also: str = ""
    """What else it needs, for the remedy."""
    compiles: bool = False
    """It compiles the whole graph to one engine, and does its own optimising."""

    @property
    def remedy(self) -> str:
        """How to install it."""
        return install(*self.extras) + self.also

    @property
    def on_gpu(self) -> bool:
        return self.provider != "CPUExecutionProvider"

    @property
    def known(self) -> Known:
        """What a `runtime` block may ask for."""
        names = tuple(self.options(Workload(image=(1, 1, 1), max_batch=1, precision="int8")))
        environment = (TF32,) if self.compiles else ()
        return Known("onnxruntime", MODEL, self.provider, SETTINGS, names, environment)

    def runtime(self, workload: Workload, opset: int | None) -> Runtime:
        """How ONNX Runtime opens a model on this provider."""
        on_saturation = {X64_PRECISION: "1"} if workload.precision == "int8" and not self.on_gpu else {}
        return Runtime(
            library="onnxruntime",
            minimum_version=self.oldest or oldest(MINIMUM_VERSIONS, opset),
            file=MODEL,
            device=self.provider,
            # The whole graph goes into one engine, so ONNX Runtime itself can refuse the CPU. TensorRT optimises.
            settings={OPTIMIZATION: "ORT_DISABLE_ALL", NO_FALLBACK: "1"}
            if self.compiles
            else {OPTIMIZATION: "ORT_ENABLE_ALL"},
            settings_if_int8_saturates=on_saturation,
            device_options=dict(self.options(workload)),
            # These providers have no option for TF32, and an engine must run as it was built.
            environment={TF32: "0"} if self.compiles else {},
        )


def cuda_options(workload: Workload) -> Options:  # noqa: ARG001 (of `Provider.options`)
    return {"device_id": "0", "use_tf32": "0"}


def tensorrt_options(workload: Workload) -> Options:
    # The Python binding parses these options itself. It accepts only "True" or "False"; "1" is an error.
    caches = {"trt_engine_cache_enable": "True", "trt_engine_cache_path": CACHE}
    timings = {"trt_timing_cache_enable": "True", "trt_timing_cache_path": CACHE}
    integers = {"trt_int8_enable": "True"} if workload.precision == "int8" else {}
    return {"device_id": "0", **profile("trt", workload), **integers, **caches, **timings}


def rtx_options(workload: Workload) -> Options:
    return {**profile("nv", workload), "nv_runtime_cache_path": CACHE}


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
    extras=("cpu",),
)
CUDA = Provider(
    name="onnxruntime-cuda",
    provider="CUDAExecutionProvider",
    # Its only integer product is MatMulInteger of int8 and int8. With Q/DQ, the product itself runs in float32.
    dialect=Dialect(signed=True, refuses={"int8": "ONNX Runtime's CUDA provider multiplies Q/DQ in float32"}),
    extras=("gpu",),
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
    extras=("gpu",),
    also=", and TensorRT 10",
    options=tensorrt_options,
    library="onnxruntime_providers_tensorrt",
    preload=("tensorrt",),
    compiles=True,
)
RTX = Provider(
    name="onnxruntime-tensorrt-rtx",
    provider="NvTensorRTRTXExecutionProvider",
    dialect=Dialect(signed=True, opset=20),
    extras=("cpu", "gpu-rtx"),
    options=rtx_options,
    plugin="onnxruntime_ep_nv_tensorrt_rtx",
    oldest="1.24",
    compiles=True,
)
PROVIDERS = {provider.name: provider for provider in (CPU, CUDA, TENSORRT, RTX)}
