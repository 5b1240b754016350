"""Parses model.onnx to a strongly typed network of TensorRT. Errors name the ONNX node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paraexport.errors import EngineError
from paraexport.targets.trt.flavour import Flavour

UNSUPPORTED = "UNSUPPORTED_NODE"
QUANTISING = ("QuantizeLinear", "DequantizeLinear")
SHOWN = 3
"""Nodes that an error names; it counts the rest."""
NOISE = re.compile(r"^(Invalid Node - .*|\[?checkMacros.*|\[\d+\] *|Assertion failed: )", re.MULTILINE)
INSIDE = re.compile(r"API Usage Error \((.*?)(?: In \w+ at /\S+)?\)\s*$", re.DOTALL)
SIMPLER_GRAPH = "build with --layout branches, or --precision fp32; `paraexport doctor` shows the versions"


def parse(flavour: Flavour, trt: Any, builder: Any, logger: Any, model: Path) -> Any:
    """The network of the ONNX file, with exactly the types of the graph.

    Some graphs contain an `Attention` node, because it could not be written out. TensorRT may decompose it into several
    kernels; without this permission, the build fails if no fused kernel fits. A fused kernel that fits is still used.

    Raises:
        EngineError: TensorRT does not support a node (the message names it), the model does not have one float32 input
            and one float32 output, or the image size is not fixed.
    """
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        faults = [describe_fault(parser.get_error(index)) for index in range(parser.num_errors)]
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise EngineError(
            f"{flavour.title} {trt.__version__} does not support the graph",
            where=model.name,
            got="; ".join(faults[:SHOWN]) + more if faults else "the file cannot be read",
            remedy=SIMPLER_GRAPH,
        )
    require_one_of_each(trt, network, model)
    require_signed(model)
    for layer in attentions(trt, network):
        layer.attention.decomposable = True
    shape = tuple(network.get_input(0).shape)
    if any(size < 1 for size in shape[1:]):
        raise EngineError(
            "the size of the images is not fixed",
            where=f"{model.name}, input {network.get_input(0).name}",
            expected="numbers for all but the batch",
            got=list(shape),
            remedy="export it with a fixed image size",
        )
    return network


def require_one_of_each(trt: Any, network: Any, model: Path) -> None:
    """Refuse other inputs and outputs. TensorRT reads an empty or foreign file as an empty network."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    types = [[tensor.dtype for tensor in side] for side in (inputs, outputs)]
    if types != [[trt.float32]] * 2:
        input_types, output_types = (", ".join(dtype.name for dtype in side) or "none" for side in types)
        raise EngineError(
            "not a model from images to logits",
            where=model.name,
            expected="one input and one output of float32",
            got=f"inputs: {input_types}; outputs: {output_types}",
            remedy="compile a model.onnx that `paraexport build` made",
        )


def require_signed(model: Path) -> None:
    """Refuse uint8 in Q/DQ. With zero point 0 TensorRT reads it as int8, which ends at 127, and only warns."""
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    types |= {
        node.output[0]: attribute.t.data_type
        for node in graph.node
        for attribute in node.attribute
        if attribute.name == "value"
    }
    unsigned = [
        f"{node.name or node.output[0]} ({node.op_type})"
        for node in graph.node
        if node.op_type in QUANTISING and onnx.TensorProto.UINT8 in map(types.get, node.input)
    ]
    if unsigned:
        more = f" and {len(unsigned) - SHOWN} more" if len(unsigned) > SHOWN else ""
        raise EngineError(
            "uint8 in QuantizeLinear and DequantizeLinear would be read as int8",
            where=model.name,
            expected="int8 with zero point 0",
            got=", ".join(unsigned[:SHOWN]) + more,
            remedy=SIMPLER_GRAPH,
        )


def attentions(trt: Any, network: Any) -> Iterator[Any]:
    """The first layer of each attention. TensorRT turns an `Attention` node into a group of layers.

    Before 10.14 there are none, because the parser does not support the node.
    """
    if not hasattr(trt, "IAttentionInputLayer"):
        return
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer  # the bindings return the base class
            yield layer


def describe_fault(error: Any) -> str:
    """`branches.0/fc1/MatMul (MatMul): why`, on one line."""
    reason = error.desc()
    if (inside := INSIDE.search(NOISE.sub("", reason).strip())) is not None:
        reason = inside[1]
    reason = " ".join(NOISE.sub("", reason).split())
    if error.code().name == UNSUPPORTED and reason in {"false", ""}:
        reason = "there is no such operator in TensorRT"
    operator = error.node_operator()
    where = error.node_name() or (f"node {error.node()}" if error.node() >= 0 else "the file")
    return f"{where}{f' ({operator})' if operator else ''}: {reason or error.code().name}"
