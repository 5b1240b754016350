"""Any values of a graph by name, for some images: the graph in ONNX Runtime, with those values as its outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

Array = NDArray[np.float32]
Probe = Callable[[Array], list[Array]]
"""float32 [N, C, H, W] -> the values, in the order of their names."""
MOST_IN_MEMORY_BYTES = 2**30


def open_probe(model: onnx.ModelProto, names: Sequence[str], *, optimised: bool = True) -> Probe:
    """The graph, which is changed, with these outputs; `optimised=False` keeps every value, those of fused nodes too.

    Asking for a value keeps it from being fused away, whatever else the runtime does to the graph.
    """
    import onnxruntime

    source = model.graph.input[0].name
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        # Through a file, since a model in memory may not pass 2 GiB.
        path = Path(folder) / "probe.onnx"
        onnx.save(model, path, save_as_external_data=model.ByteSize() > MOST_IN_MEMORY_BYTES)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Array) -> list[Array]:
        return [np.asarray(value) for value in session.run(list(names), {source: images})]

    return run
