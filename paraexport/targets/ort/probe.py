"""Computes any named values of a graph: runs it in ONNX Runtime with those values as outputs.

The runtime gets the graph without its weights, and references to the weights. So the weights are not copied to a file,
and the 2 GiB limit of a protobuf message does not apply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.onnx_file import forget_pages, weights_bytes, without_weights
from paraexport.system.memory import give_back

if TYPE_CHECKING:
    import onnxruntime

Array = NDArray[np.float32]
UNSIGNED = {1: np.uint8, 2: np.uint16}
"""Size in bytes -> an integer type of this size, for types that NumPy itself lacks, such as bfloat16."""


class Probe:
    """float32 [N, C, H, W] -> the values, in the order of their names.

    It holds a copy of all weights until it is closed. Use it in a `with`, which closes it.
    """

    def __init__(
        self, names: Sequence[str], session: onnxruntime.InferenceSession, weights: Sequence[onnxruntime.OrtValue]
    ) -> None:
        """`weights` must be kept here, because the session reads their memory without owning it."""
        self.names, self.session, self.weights = [*names], session, weights
        self.size_bytes = sum(weight.tensor_size_in_bytes() for weight in weights)

    def __call__(self, images: Array) -> list[Array]:
        (source,) = self.session.get_inputs()
        return [np.asarray(value) for value in self.session.run(self.names, {source.name: images})]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        del self.session, self.weights
        give_back(self.size_bytes)


def open_probe(model: ir.Model, names: Sequence[str], *, optimised: bool = True) -> Probe:
    """Open the graph with these values as outputs. The runtime cannot fuse away a value that is an output.

    `optimised=False` switches all optimisations off, so that each node runs as written. Do not change the weights of
    `model` while the probe is open.
    """
    import onnxruntime

    from paraexport.targets.ort.cpu import checking_options
    from paraexport.targets.ort.saturation import saturates

    give_back(weights_bytes(model.graph))
    proto, weights = without_weights(model)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names))
    options = checking_options()
    if not optimised or saturates():
        write_out_products(proto.graph)
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    probe = Probe(names, *open_in_memory(proto, weights, options))
    forget_pages(weights.values())  # the session has packed them in its own way
    return probe


def open_in_memory(
    proto: onnx.ModelProto, weights: Mapping[str, ir.TensorProtocol], options: onnxruntime.SessionOptions
) -> tuple[onnxruntime.InferenceSession, list[onnxruntime.OrtValue]]:
    """(a session on the CPU, its weights). The weights must live as long as the session."""
    import onnxruntime

    held = [on_cpu(tensor) for tensor in weights.values()]
    options.add_external_initializers([*weights], held)
    content = proto.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]), held


def on_cpu(tensor: ir.TensorProtocol) -> onnxruntime.OrtValue:
    """The memory of the tensor itself, or a copy if its numbers are not contiguous or not aligned."""
    import onnxruntime

    array = np.require(tensor.numpy(), requirements=["C", "A"])
    if array.dtype.kind in "biuf":
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    numbers = array.view(UNSIGNED[array.itemsize])
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(numbers, int(tensor.dtype))


def write_out_products(graph: onnx.GraphProto) -> None:
    """Replace integer products by dequantised float32 products, with the same output names.

    ONNX Runtime has exact integer kernels on every CPU, but only uses them as one of its optimisations.
    """
    nodes = [*graph.node]
    del graph.node[:]
    for node in nodes:
        graph.node.extend(write_out_product(node) if node.op_type == "MatMulIntegerToFloat" else [node])


def write_out_product(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    (output,) = node.output
    left, right, left_scale, right_scale, *others = node.input
    left_zero, right_zero, bias = (*others, "", "", "")[:3]
    factors, product = [f"{output}/left", f"{output}/right"], f"{output}/product" if bias else output
    nodes = [
        onnx.helper.make_node("DequantizeLinear", [left, left_scale, left_zero], factors[:1], axis=-1),
        onnx.helper.make_node("DequantizeLinear", [right, right_scale, right_zero], factors[1:], axis=-1),
        onnx.helper.make_node("MatMul", factors, [product]),
    ]
    return [*nodes, onnx.helper.make_node("Add", [product, bias], [output])] if bias else nodes
