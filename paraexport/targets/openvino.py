"""Runs `model.onnx` with OpenVINO on the CPU."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from paraexport.findings.graphs import TensorInfo
from paraexport.system.extras import install
from paraexport.targets import saturation
from paraexport.targets.folder import MODEL, Folder
from paraexport.targets.runtime import Known, Runtime, oldest, require_version
from paraexport.targets.target import Availability, Dialect, Workload

if TYPE_CHECKING:
    import openvino

DEVICE = "CPU"
KNOWN = Known(
    "openvino", MODEL, DEVICE, settings=("INFERENCE_PRECISION_HINT", "PERFORMANCE_HINT", "LP_TRANSFORMS_MODE")
)
MINIMUM_VERSIONS = {20: "2024.4", 23: "2026.1"}
"""By opset, as `python -m benchmarks.experiments.oldest_runtimes` finds them."""
INTEGERS, PRODUCTS = ("i8", "u8"), ("FullyConnected", "MatMul")
IN_FLOAT32 = "this CPU has no VNNI; OpenVINO's int8 products would be wrong without it, so they run in float32"


@dataclass(frozen=True)
class OpenVino:
    """The target `openvino`."""

    name: ClassVar = "openvino"
    dialect: ClassVar = Dialect(
        signed=False, bias_rows=True, weights_only=("bf16",), half_runs_in="float32 on CPUs: no faster, half the file"
    )

    def availability(self) -> Availability:
        try:
            import openvino
        except ImportError as error:
            return Availability(None, f"openvino cannot be imported: {error}", install("openvino"))
        return Availability(str(openvino.__version__).partition("-")[0])

    def runtime(self, folder: Folder, workload: Workload, opset: int | None = None) -> Runtime:  # noqa: ARG002
        return Runtime(
            library="openvino",
            minimum_version=oldest(MINIMUM_VERSIONS, opset),
            file=MODEL,
            device=DEVICE,
            # Without the first hint OpenVINO computes in bfloat16 or half on CPUs that support them.
            settings={"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"},
            settings_if_int8_saturates={"LP_TRANSFORMS_MODE": "NO"} if workload.precision == "int8" else {},
        )

    def open_session(self, folder: Folder, workload: Workload, runtime: Runtime | None = None) -> OpenVinoSession:
        runtime = runtime or self.runtime(folder, workload)
        KNOWN.require(runtime, folder.path)
        require_version(runtime, self.availability().version or "", folder.path)
        settings = runtime.settings_here(saturates)
        return OpenVinoSession(folder.at(runtime.file), workload.threads, settings)

    def int8_products(self, folder: Folder) -> frozenset[str] | str:
        if saturates():
            return IN_FLOAT32
        runtime = self.runtime(folder, Workload(image=(), max_batch=1, precision="int8"))
        compiled = OpenVinoSession(folder.at(MODEL), None, runtime.settings).compiled
        products: set[str] = set()
        for operation in compiled.get_runtime_model().get_ops():
            facts = operation.get_rt_info()
            kind, precision, names = (
                facts[name].value for name in ("layerType", "runtimePrecision", "originalLayersNames")
            )
            if kind in PRODUCTS and precision in INTEGERS:
                # OpenVINO appends "/Dequantization…" to the names of nodes that it splits off from a product.
                products.update(name.partition("/Dequantization")[0] for name in names.split(","))
        return frozenset(products)

    def slow_int8(self) -> str:
        return "int8 runs in float32, because the CPU has no VNNI" if saturates() else ""


class OpenVinoSession:
    """One compiled model, with one inference request for each calling thread."""

    def __init__(self, model: Path, threads: int | None, settings: Mapping[str, str]) -> None:
        """Compile the model with these settings."""
        import openvino
        from openvino.frontend import FrontEndManager

        # Name the format: a path without ".onnx", such as /proc/self/fd/3, would be tried in every other one first.
        reader = FrontEndManager().load_by_framework("onnx")
        own = {} if threads is None else {"INFERENCE_NUM_THREADS": str(threads)}
        self.compiled = openvino.Core().compile_model(reader.convert(reader.load(model)), DEVICE, {**settings, **own})
        self.local = threading.local()
        self.inputs, self.outputs = map(tensor_infos, (self.compiled.inputs, self.compiled.outputs))

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        request = getattr(self.local, "request", None)
        if request is None:
            request = self.local.request = self.compiled.create_infer_request()
        # Copy the result: the next call overwrites the request's own memory.
        return np.array(request.infer({0: images}, share_inputs=True)[0], np.float32)


def tensor_infos(ports: Sequence[openvino.ConstOutput]) -> tuple[TensorInfo, ...]:
    """Names, types and shapes of inputs or outputs; a free axis is "?"."""
    return tuple(
        TensorInfo(
            port.get_any_name(),
            np.dtype(port.get_element_type().to_dtype()).name,
            tuple("?" if size.is_dynamic else size.get_length() for size in port.get_partial_shape()),
        )
        for port in ports
    )


@functools.cache
def saturates() -> bool:
    """Whether OpenVINO's products of uint8 and int8 saturate on this CPU."""
    import openvino
    from openvino import opset13 as ops

    def product(images: NDArray[np.uint8], weight: NDArray[np.int8]) -> NDArray[np.float32]:
        source = ops.parameter([-1, images.shape[1]], np.float32)
        edges = (np.float32(edge) for edge in (0, 255, 0, 255))
        scaled = ops.multiply(ops.convert(ops.constant(weight), np.float32), ops.constant(np.float32(1)))
        result = ops.matmul(ops.fake_quantize(source, *edges, 256), scaled, False, False)
        model = openvino.Model([result], [source], "product")
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return np.asarray(compiled([images.astype(np.float32)])[0])

    return saturation.saturates(product)
