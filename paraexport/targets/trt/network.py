"""model.onnx -> a strongly typed network of TensorRT, or an error that names the ONNX node."""

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
"""Nodes that an error tells of; it counts the rest."""
NOISE = re.compile(r"^(Invalid Node - .*|\[?checkMacros.*|\[\d+\] *|Assertion failed: )", re.MULTILINE)
INSIDE = re.compile(r"API Usage Error \((.*?)(?: In \w+ at /\S+)?\)\s*$", re.DOTALL)
LESS = "build with --layout branches, or --precision fp32; `paraexport doctor` tells the versions"


def parse(flavour: Flavour, trt: Any, builder: Any, logger: Any, model: Path) -> Any:
    """The network of the ONNX file; its types are those that the graph says, and no others.

    An `Attention` node, which is left where it could not be written out, may be computed by several kernels where no
    fused one fits: without that leave the build fails. It is leave and no order: a fused kernel that fits is taken.

    Raises:
        EngineError: a node that TensorRT does not take, by name; another form of input and output than every model of
            ours has; or an image size that is not fixed.
    """
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        faults = [fault(parser.get_error(index)) for index in range(parser.num_errors)]
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise EngineError(
            f"{flavour.title} {trt.__version__} does not take the graph",
            where=model.name,
            got="; ".join(faults[:SHOWN]) + more if faults else "the file cannot be read",
            remedy=LESS,
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
    """TensorRT reads a file that is empty or no ONNX as a network of nothing."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    kinds = [[one.dtype for one in side] for side in (inputs, outputs)]
    if kinds != [[trt.float32]] * 2:
        inside, outside = (", ".join(one.name for one in side) or "none" for side in kinds)
        raise EngineError(
            "no model of images to logits",
            where=model.name,
            expected="one input and one output of float32",
            got=f"inputs: {inside}; outputs: {outside}",
            remedy="compile a model.onnx that `paraexport build` made",
        )


def require_signed(model: Path) -> None:
    """Refuse uint8 in Q/DQ: with zero point 0 TensorRT reads it as int8, which ends at 127, and only warns."""
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    kinds = {one.name: one.data_type for one in graph.initializer}
    kinds |= {node.output[0]: one.t.data_type for node in graph.node for one in node.attribute if one.name == "value"}
    found = [
        f"{node.name or node.output[0]} ({node.op_type})"
        for node in graph.node
        if node.op_type in QUANTISING and onnx.TensorProto.UINT8 in map(kinds.get, node.input)
    ]
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise EngineError(
            "uint8 in QuantizeLinear and DequantizeLinear would be read as int8",
            where=model.name,
            expected="int8 with zero point 0",
            got=", ".join(found[:SHOWN]) + more,
            remedy=LESS,
        )


def attentions(trt: Any, network: Any) -> Iterator[Any]:
    """The first layer of each attention; one made from an `Attention` node is a group of layers.

    There are none before 10.14, whose parser does not take the node.
    """
    if not hasattr(trt, "IAttentionInputLayer"):
        return
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer  # the bindings hand out the base class
            yield layer


def fault(error: Any) -> str:
    """`branches.0/fc1/MatMul (MatMul): why`, on one line."""
    reason = error.desc()
    if (inside := INSIDE.search(NOISE.sub("", reason).strip())) is not None:
        reason = inside[1]
    reason = " ".join(NOISE.sub("", reason).split())
    if error.code().name == UNSUPPORTED and reason in {"false", ""}:
        reason = "there is no such operator in it"
    operator = error.node_operator()
    where = error.node_name() or (f"node {error.node()}" if error.node() >= 0 else "the file")
    return f"{where}{f' ({operator})' if operator else ''}: {reason or error.code().name}"
