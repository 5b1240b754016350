"""ONNX Runtime on the CPU: runs `model.onnx` as it is."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from paraexport.targets.saturation import saturates
from paraexport.targets.target import Availability, Dialect

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS = ("CPUExecutionProvider",)
INTEGER_PRODUCTS = frozenset(
    {"DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QGemm", "QLinearMatMul"}
)


@dataclass(frozen=True)
class OnnxRuntime:
    """The target."""

    name: ClassVar = "onnxruntime"
    dialect: ClassVar = Dialect(
        signed=False,
        own_operators=True,
        weights_only=("bf16",),
        half_runs_in="float32 on CPUs: no faster, half the file",
    )

    def availability(self) -> Availability:
        try:
            import onnxruntime
        except ImportError as error:
            remedy = "pip install 'paraexport[cpu]'"
            return Availability(None, f"onnxruntime cannot be imported: {error}", remedy)
        return Availability(str(onnxruntime.__version__))

    def open_session(self, folder: Path, threads: int | None) -> OnnxRuntimeSession:
        return OnnxRuntimeSession(folder / "model.onnx", threads)

    def low_products(self, folder: Path) -> frozenset[str]:
        import onnx
        import onnxruntime

        options = session_options()
        with tempfile.TemporaryDirectory() as work:
            optimised = Path(work) / "optimised.onnx"
            options.optimized_model_filepath = str(optimised)
            onnxruntime.InferenceSession(folder / "model.onnx", options, providers=list(PROVIDERS))
            nodes = onnx.load(optimised, load_external_data=False).graph.node
        return frozenset(node.name for node in nodes if node.op_type in INTEGER_PRODUCTS)


def session_options() -> onnxruntime.SessionOptions:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if saturates():
        # Weights become uint8: exact, and half as fast as the kernels that a CPU with VNNI has for int8.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


class OnnxRuntimeSession:
    """One InferenceSession; its `run` may be called from many threads at once."""

    def __init__(self, model: Path, threads: int | None) -> None:
        import onnxruntime

        options = session_options()
        if threads is not None:
            options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(model, options, providers=list(PROVIDERS))
        (self.input,) = (value.name for value in self.session.get_inputs())
        (self.output,) = (value.name for value in self.session.get_outputs())

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = self.session.run([self.output], {self.input: images})
        return np.asarray(logits, np.float32)
