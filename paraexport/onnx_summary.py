"""What an ONNX file holds, told from its graph without reading external weights."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paraexport.errors import InputError
from paraexport.records import TensorInfo

if TYPE_CHECKING:
    import onnx

BRANCH = re.compile(r"(?:^|/)branches\.(\d+)/")

RANDOM = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Operators that draw random numbers, `Dropout` in training only."""


@dataclass(frozen=True)
class OnnxSummary:
    size_bytes: int
    ir_version: int
    opsets: dict[str, int]
    """Version by domain; the standard one is `ai.onnx`."""
    producer: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    dynamic_axes: tuple[str, ...]
    operators: dict[str, int]
    """Nodes by operator, those in subgraphs and functions included."""
    weights: int
    """Initializers."""
    weights_bytes: int
    external_data: bool
    """Whether weights lie in files beside this one."""
    branches: int
    """Parallel branches, as the names of the nodes tell; 0 where they tell of none."""


def summarise(path: Path) -> OnnxSummary:
    """Read the graph at `path`.

    Raises:
        InputError: it is no ONNX model.
    """
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except OSError:
        raise
    except Exception as error:  # protobuf's DecodeError, whose home differs between versions
        raise InputError("not an ONNX model", where=path, got=error, remedy="export it again") from error
    if not model.opset_import or not model.graph.output:
        raise InputError("not an ONNX model", where=path, expected="a graph with an output", remedy="export it again")
    weights = [*model.graph.initializer]
    names = {tensor.name for tensor in weights}
    inputs = tuple(tensor_info(value) for value in model.graph.input if value.name not in names)
    outputs = tuple(map(tensor_info, model.graph.output))
    nodes = [*all_nodes(model.graph.node), *(node for function in model.functions for node in all_nodes(function.node))]
    axes = (axis for tensor in (*inputs, *outputs) for axis in tensor.shape if isinstance(axis, str))
    return OnnxSummary(
        size_bytes=path.stat().st_size,
        ir_version=model.ir_version,
        opsets={opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=inputs,
        outputs=outputs,
        dynamic_axes=tuple(dict.fromkeys(axes)),
        operators=dict(Counter(operator(node) for node in nodes)),
        weights=len(weights),
        weights_bytes=sum(map(tensor_bytes, weights)),
        external_data=any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in weights),
        branches=len({found[1] for node in nodes if (found := BRANCH.search(node.name))}),
    )


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from all_nodes(graph.node)


def operator(node: onnx.NodeProto) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


def tensor_info(value: onnx.ValueInfoProto) -> TensorInfo:
    """An axis without a size goes by its name, or by `?`."""
    import onnx

    tensor = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    axes = [axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?" for axis in tensor.shape.dim]
    return TensorInfo(value.name, "float32" if dtype == "float" else dtype, tuple(axes))


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """As many bytes as the elements take where they are packed."""
    import onnx

    if tensor.data_type == onnx.TensorProto.STRING:
        return sum(map(len, tensor.string_data))
    name = onnx.TensorProto.DataType.Name(tensor.data_type)
    digits = re.search(r"(\d+)", {"FLOAT": "32", "DOUBLE": "64", "BOOL": "8", "COMPLEX64": "64"}.get(name, name))
    return math.ceil(math.prod(tensor.dims) * int(digits[1] if digits else 0) / 8)
