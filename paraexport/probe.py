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

    from paraexport.targets.ort.cpu import checking_options
    from paraexport.targets.ort.saturation import saturates

    source = model.graph.input[0].name
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names))
    options = checking_options()
    if not optimised or saturates():
        write_out_products(model.graph)
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


def write_out_products(graph: onnx.GraphProto) -> None:
    """Products of integers as the products of float32 that they stand for, each output under its name.

    ONNX Runtime has exact kernels for them on every CPU, but takes them only as one of its optimisations.
    """
    nodes = [*graph.node]
    del graph.node[:]
    for node in nodes:
        graph.node.extend(written_out(node) if node.op_type == "MatMulIntegerToFloat" else [node])


def written_out(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    (output,) = node.output
    left, right, left_scale, right_scale, *others = node.input
    left_zero, right_zero, bias = (*others, "", "", "")[:3]
    factors, product = [f"{output}/left", f"{output}/right"], f"{output}/product" if bias else output
    made = [
        onnx.helper.make_node("DequantizeLinear", [left, left_scale, left_zero], factors[:1], axis=-1),
        onnx.helper.make_node("DequantizeLinear", [right, right_scale, right_zero], factors[1:], axis=-1),
        onnx.helper.make_node("MatMul", factors, [product]),
    ]
    return [*made, onnx.helper.make_node("Add", [product, bias], [output])] if bias else made
