"""Makes each execution provider of ONNX Runtime a target; see `docs/onnxruntime.md`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paraexport.findings.graphs import TensorInfo
from paraexport.targets.folder import MODEL, Folder
from paraexport.targets.ort import available, cpu, gpu
from paraexport.targets.ort.provider import Provider
from paraexport.targets.ort.saturation import saturates
from paraexport.targets.runtime import Runtime, require_version
from paraexport.targets.target import NOT_REPORTED, Availability, Dialect, Workload

if TYPE_CHECKING:
    import onnxruntime


@dataclass(frozen=True)
class OnnxRuntime:
    """The target of one provider."""

    provider: Provider

    @property
    def name(self) -> str:
        return self.provider.name

    @property
    def dialect(self) -> Dialect:
        return self.provider.dialect

    def availability(self) -> Availability:
        return available.availability(self.provider)

    def runtime(self, folder: Folder, workload: Workload, opset: int | None = None) -> Runtime:  # noqa: ARG002
        return self.provider.runtime(workload, opset)

    def open_session(self, folder: Folder, workload: Workload, runtime: Runtime | None = None) -> OnnxRuntimeSession:
        import onnxruntime

        runtime = runtime or self.runtime(folder, workload)
        self.provider.known.require(runtime, folder.path)
        require_version(runtime, onnxruntime.__version__, folder.path)
        return OnnxRuntimeSession(self.provider, folder.at(runtime.file), workload, runtime)

    def int8_products(self, folder: Folder) -> frozenset[str] | str:
        # The provider hides TensorRT's engine.
        if self.provider.on_gpu:
            return NOT_REPORTED
        runtime = self.runtime(folder, Workload(image=(), max_batch=1, precision="int8"))
        return cpu.products_in_int8(folder.at(MODEL), runtime)

    def slow_int8(self) -> str:
        slow = not self.provider.on_gpu and saturates()
        return "int8 runs at half its speed, because the CPU has no VNNI" if slow else ""


class OnnxRuntimeSession:
    """One InferenceSession; many threads may call it at once."""

    def __init__(self, provider: Provider, model: Path, workload: Workload, runtime: Runtime) -> None:
        self.provider = provider
        if provider.on_gpu:
            self.session = gpu.open_session(provider, model, workload, runtime)
        else:
            self.session = cpu.open_session(model, workload.threads, runtime)
        self.inputs, self.outputs = tensor_infos(self.session.get_inputs()), tensor_infos(self.session.get_outputs())
        self.input, self.output = self.inputs[0].name, self.outputs[0].name

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = self.session.run([self.output], {self.input: images})
        return np.asarray(logits, np.float32)


def tensor_infos(values: Sequence[onnxruntime.NodeArg]) -> tuple[TensorInfo, ...]:
    """Names, types and shapes of inputs or outputs; a free axis has its name, or "?"."""
    return tuple(
        TensorInfo(value.name, dtype_of(value.type), tuple("?" if size is None else size for size in value.shape or ()))
        for value in values
    )


def dtype_of(tensor_type: str) -> str:
    """`tensor(float)` -> `float32`."""
    name = tensor_type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
