"""Summarises an ONNX file from its graph alone, without its files of weights."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paraexport.findings.graphs import TensorInfo

if TYPE_CHECKING:
    import onnx

BRANCH = re.compile(r"(?:^|/)branches\.(\d+)(?=[./])")
SHARED, MERGED = "shared", "merged branches"
"""Labels of nodes that belong to no branch or to several, and of nodes that compute all branches at once."""
RANDOM = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Operators that draw random numbers; `Dropout` does so only in training."""
OVERRIDABLE_IR = 4
"""From this IR version on, an initializer that is also an input is an input with a default."""


@dataclass(frozen=True)
class OnnxSummary:
    size_bytes: int
    ir_version: int
    opsets: dict[str, int]
    """The version of each domain. `ai.onnx` is the standard one."""
    producer: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    dynamic_axes: tuple[str, ...]
    operators: dict[str, int]
    """The number of nodes of each operator, subgraphs and functions included."""
    weights: int
    """The number of initializers."""
    weights_bytes: int
    external_data: bool
    """Whether some weights are in other files."""
    overridable: tuple[str, ...]
    """Inputs with a default: initializers that are also inputs, from IR version 4 on."""
    batch: int
    """The number of images in one run if the file fixes it; 1 if it is free."""
    branches: int
    """The number of parallel branches, according to the names of the nodes."""


@dataclass(frozen=True)
class BranchCost:
    """The cost of one branch, or of all shared nodes, for one image."""

    name: str
    """`branch 0`, …, `merged branches` or `shared`."""
    nodes: int
    parameters: int
    """Elements of constants of floating-point or 8-bit numbers. A shared constant counts once."""
    multiply_adds: int | None
    """None if a shape is not known."""
    activations: int | None
    """Elements that the nodes write; None if a shape is not known."""


@dataclass(frozen=True)
class Contents:
    """The contents of an ONNX file, for `inspect`."""

    summary: OnnxSummary
    parts: tuple[BranchCost, ...]
    missing: str
    """The problem with its files of weights; empty if there is none."""


def summarise(path: Path) -> OnnxSummary:
    """Read the graph at `path`.

    Raises:
        InputError: the file is not an ONNX model, or is damaged.
    """
    from paraexport.graph.untrusted import read

    return summary_of(read(path), path.stat().st_size)


def summary_of(model: onnx.ModelProto, file_bytes: int) -> OnnxSummary:
    from paraexport.graph.screen import is_external, size_bytes

    weights = [*model.graph.initializer]
    names = {tensor.name for tensor in weights}
    inputs = tuple(tensor_info(value) for value in model.graph.input if value.name not in names)
    outputs = tuple(map(tensor_info, model.graph.output))
    nodes = [*all_nodes(model.graph.node), *(node for function in model.functions for node in all_nodes(function.node))]
    axes = (axis for tensor in (*inputs, *outputs) for axis in tensor.shape if isinstance(axis, str))
    return OnnxSummary(
        size_bytes=file_bytes,
        ir_version=model.ir_version,
        opsets={opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=inputs,
        outputs=outputs,
        dynamic_axes=tuple(dict.fromkeys(axes)),
        operators=dict(Counter(operator(node) for node in nodes)),
        weights=len(weights),
        weights_bytes=sum(map(size_bytes, weights)),
        external_data=any(map(is_external, weights)),
        overridable=tuple(value.name for value in model.graph.input if value.name in names)
        if model.ir_version >= OVERRIDABLE_IR
        else (),
        batch=fixed_batch(inputs),
        branches=len({match[1] for node in nodes if (match := BRANCH.search(node.name))}),
    )


def fixed_batch(inputs: Iterable[TensorInfo]) -> int:
    """The length of the first axis of the first input with several axes; 1 if it is free."""
    shape = next((tensor.shape for tensor in inputs if len(tensor.shape) > 1), ())
    return shape[0] if shape and isinstance(shape[0], int) else 1


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from all_nodes(graph.node)


def operator(node: onnx.NodeProto) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


def tensor_info(value: onnx.ValueInfoProto) -> TensorInfo:
    """Name, type and shape. A free axis has its name, or `?`; a negative size means a free axis too."""
    import onnx

    tensor = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    sized = [axis.HasField("dim_value") and axis.dim_value >= 0 for axis in tensor.shape.dim]
    axes = [axis.dim_value if has else axis.dim_param or "?" for axis, has in zip(tensor.shape.dim, sized, strict=True)]
    return TensorInfo(value.name, "float32" if dtype == "float" else dtype, tuple(axes))
