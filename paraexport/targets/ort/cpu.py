"""ONNX Runtime on the CPU: runs `model.onnx` as it is, and tells what it makes of int8."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from paraexport.targets.ort.provider import CPU
from paraexport.targets.ort.saturation import saturates

if TYPE_CHECKING:
    import onnxruntime

INTEGER_PRODUCTS = frozenset(
    {"DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QGemm", "QLinearMatMul"}
)
WRITTEN_APART = "session.optimized_model_external_initializers"


def open_session(model: Path, threads: int | None) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = session_options()
    if threads is not None:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=[CPU.provider])


def session_options() -> onnxruntime.SessionOptions:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # every error is raised too
    if saturates():
        # Weights become uint8: exact, and half as fast as the kernels that a CPU with VNNI has for int8.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def checking_options() -> onnxruntime.SessionOptions:
    """For graphs that are not for this target alone: where products of int8 saturate, Q/DQ is computed in float32.

    `session.x64quantprecision` will not do: it makes a DequantizeLinear invalid that has a scale for each column and
    stays by itself, as ONNX Runtime 1.32 leaves those behind int8 activations.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if saturates():
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def products_in_int8(model: Path) -> frozenset[str]:
    """The names of the products that are of integers in the graph which ONNX Runtime makes of the model."""
    import onnx
    import onnxruntime

    options = session_options()
    with tempfile.TemporaryDirectory() as work:
        optimised = Path(work) / "optimised.onnx"
        options.optimized_model_filepath = str(optimised)
        # With its weights inside, a file of more than 2 GiB could not be written.
        options.add_session_config_entry(f"{WRITTEN_APART}_file_name", "weights")
        options.add_session_config_entry(f"{WRITTEN_APART}_min_size_in_bytes", "1024")
        onnxruntime.InferenceSession(model, options, providers=[CPU.provider])
        nodes = onnx.load(optimised, load_external_data=False).graph.node
    return frozenset(node.name for node in nodes if node.op_type in INTEGER_PRODUCTS)
