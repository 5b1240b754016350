"""ONNX Runtime as targets, one for each execution provider; see `docs/onnxruntime.md`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paraexport.targets.ort import available, cpu, gpu
from paraexport.targets.ort.provider import Provider
from paraexport.targets.ort.saturation import saturates
from paraexport.targets.target import UNTOLD, Availability, Dialect, Workload

MODEL = "model.onnx"


@dataclass(frozen=True)
class OnnxRuntime:
    """One of them, by its provider."""

    provider: Provider

    @property
    def name(self) -> str:
        return self.provider.name

    @property
    def dialect(self) -> Dialect:
        return self.provider.dialect

    def availability(self) -> Availability:
        return available.availability(self.provider)

    def open_session(self, folder: Path, workload: Workload) -> OnnxRuntimeSession:
        return OnnxRuntimeSession(self.provider, folder / MODEL, workload)

    def low_products(self, folder: Path) -> frozenset[str] | str:
        # TensorRT's engine is inside the provider, which tells nothing of it.
        return UNTOLD if self.provider.on_gpu else cpu.products_in_int8(folder / MODEL)

    def slow_int8(self) -> str:
        slow = not self.provider.on_gpu and saturates()
        return "int8 runs at half its speed, since the CPU has no VNNI" if slow else ""


class OnnxRuntimeSession:
    """One InferenceSession; its `run` may be called from many threads at once."""

    def __init__(self, provider: Provider, model: Path, workload: Workload) -> None:
        self.provider = provider
        if provider.on_gpu:
            self.session = gpu.open_session(provider, model, workload)
        else:
            self.session = cpu.open_session(model, workload.threads)
        (self.input,) = (value.name for value in self.session.get_inputs())
        (self.output,) = (value.name for value in self.session.get_outputs())

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = self.session.run([self.output], {self.input: images})
        return np.asarray(logits, np.float32)
