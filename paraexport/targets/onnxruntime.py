"""ONNX Runtime on the CPU: runs `model.onnx` as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paraexport.targets import Availability

NAME = "onnxruntime"
PROVIDERS = ("CPUExecutionProvider",)


def availability() -> Availability:
    try:
        import onnxruntime
    except ImportError as error:
        remedy = "pip install 'paraexport[cpu]'"
        return Availability(None, f"onnxruntime cannot be imported: {error}", remedy)
    return Availability(str(onnxruntime.__version__))


class OnnxRuntimeSession:
    """One InferenceSession; its `run` may be called from many threads at once."""

    def __init__(self, model: Path, threads: int | None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(model, options, providers=list(PROVIDERS))
        (self.input,) = (value.name for value in self.session.get_inputs())
        (self.output,) = (value.name for value in self.session.get_outputs())

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = self.session.run([self.output], {self.input: images})
        return np.asarray(logits, np.float32)


def open_session(folder: Path, threads: int | None) -> OnnxRuntimeSession:
    return OnnxRuntimeSession(folder / "model.onnx", threads)
