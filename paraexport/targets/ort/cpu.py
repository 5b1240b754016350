"""Opens sessions of ONNX Runtime on the CPU, and finds the products that it computes in int8."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from paraexport.targets.ort.provider import CPU
from paraexport.targets.ort.saturation import saturates
from paraexport.targets.ort.settings import apply_settings
from paraexport.targets.runtime import Runtime

if TYPE_CHECKING:
    import onnxruntime

INTEGER_PRODUCTS = frozenset(
    {"DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QGemm", "QLinearMatMul"}
)
WRITTEN_APART = "session.optimized_model_external_initializers"


def open_session(model: Path, threads: int | None, runtime: Runtime) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = session_options(runtime, model)
    if threads is not None:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=[runtime.device])


def session_options(runtime: Runtime, model: Path) -> onnxruntime.SessionOptions:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # every error is raised too
    settings = runtime.settings_here(saturates)
    apply_settings(options, settings, model)
    return options


def checking_options() -> onnxruntime.SessionOptions:
    """Options to check a graph on the CPU that may be for another target: exact products on every CPU.

    On CPUs where int8 products saturate, Q/DQ is computed in float32. `session.x64quantprecision` cannot be used for
    this. It makes a DequantizeLinear invalid that has one scale per column and is not fused into a product, and ONNX
    Runtime 1.32 does not fuse those that follow int8 activations.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if saturates():
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def products_in_int8(model: Path, runtime: Runtime) -> frozenset[str]:
    """The names of the products that multiply integers in the graph that ONNX Runtime has optimised."""
    import onnx
    import onnxruntime

    options = session_options(runtime, model)
    with tempfile.TemporaryDirectory() as work:
        optimised = Path(work) / "optimised.onnx"
        options.optimized_model_filepath = str(optimised)
        # Keep the weights outside: a file with more than 2 GiB cannot be written.
        options.add_session_config_entry(f"{WRITTEN_APART}_file_name", "weights")
        options.add_session_config_entry(f"{WRITTEN_APART}_min_size_in_bytes", "1024")
        onnxruntime.InferenceSession(model, options, providers=[CPU.provider])
        nodes = onnx.load(optimised, load_external_data=False).graph.node
    return frozenset(node.name for node in nodes if node.op_type in INTEGER_PRODUCTS)
