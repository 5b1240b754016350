"""Finds damage in the protobuf message of an ONNX file, before a C++ library reads it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import onnx
from onnx import TensorProto

DATA_TYPES = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}
BITS: dict[int, int] = {
    TensorProto.FLOAT: 32, TensorProto.DOUBLE: 64, TensorProto.BOOL: 8, TensorProto.COMPLEX64: 64,
    TensorProto.COMPLEX128: 128, TensorProto.BFLOAT16: 16,
}  # fmt: skip
"""The bits of one element. The name of every other type has the number in it."""
FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data", TensorProto.COMPLEX64: "float_data", TensorProto.DOUBLE: "double_data",
    TensorProto.COMPLEX128: "double_data", TensorProto.INT64: "int64_data", TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data", TensorProto.STRING: "string_data",
}  # fmt: skip
"""The field of elements that are not raw. Other types use `int32_data`."""
LARGEST_SIZE = 2**63 - 1


def problems(model: onnx.ModelProto) -> Iterator[str]:
    """All damage in `model`, one clause each."""
    yield from message_problems(model)
    for function in model.functions:
        yield from scope_problems(function.node, set(function.input), f"function {function.name}")
    yield from graph_problems(model.graph, frozenset())


def message_problems(message: Any) -> Iterator[str]:
    """Bytes instead of text, unknown data types, and tensors whose data does not fit their shape."""
    if isinstance(message, TensorProto):
        yield from tensor_problems(message)
        return
    if isinstance(message, onnx.TypeProto.Tensor | onnx.TypeProto.SparseTensor) and (
        message.elem_type not in DATA_TYPES | {TensorProto.UNDEFINED}
    ):
        yield f"{message.elem_type} is not a data type"
    for field, value in message.ListFields():
        entries: Iterable[Any] = (
            value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
        )
        if field.type == field.TYPE_STRING:
            yield from (f"a {field.name} is {entry!r}, not text" for entry in entries if isinstance(entry, bytes))
        elif field.type == field.TYPE_MESSAGE:
            for entry in entries:
                yield from message_problems(entry)


def tensor_problems(tensor: TensorProto) -> Iterator[str]:
    name = tensor.name or "a constant"
    texts = [
        tensor.name,
        tensor.doc_string,
        *(text for entry in tensor.external_data for text in (entry.key, entry.value)),
    ]
    if broken := [text for text in texts if isinstance(text, bytes)]:
        yield f"the text {broken[0]!r} of a tensor is not UTF-8"
        return
    if tensor.data_type not in DATA_TYPES:
        yield f"{name}: {tensor.data_type} is not a data type"
        return
    count = math.prod(tensor.dims)
    if any(size < 0 for size in tensor.dims) or count > LARGEST_SIZE:
        yield f"{name}: {[*tensor.dims]} is not a valid shape"
    elif is_external(tensor):
        yield from external_problems(tensor)
    elif (stored := stored_elements(tensor)) != count:
        yield f"{name}: its shape {[*tensor.dims]} has {count} elements, but its data has {stored:g}"


def is_external(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL


def size_bytes(tensor: TensorProto) -> int:
    """The size of all elements, if they are packed."""
    if tensor.data_type == TensorProto.STRING:
        return sum(map(len, tensor.string_data))
    return math.ceil(math.prod(tensor.dims) * bits_of(tensor.data_type) / 8)


def bits_of(data_type: int) -> int:
    """The bits of one element; 0 for text."""
    name = TensorProto.DataType.Name(data_type)
    digits = "".join(letter if letter.isdigit() else " " for letter in name).split()
    return BITS.get(data_type) or int(digits[0] if digits else 0)


def stored_elements(tensor: TensorProto) -> float:
    """The number of elements that the data holds. A last byte that is only partly used counts as in the shape."""
    count, bits = math.prod(tensor.dims), bits_of(tensor.data_type)
    if tensor.HasField("raw_data") and bits:
        length = len(tensor.raw_data)
        return count if length == size_bytes(tensor) else length * 8 / bits
    length = len(getattr(tensor, FIELDS.get(tensor.data_type, "int32_data")))
    if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        return length / 2
    if bits and bits < 8:
        return count if length == size_bytes(tensor) else length * 8 / bits
    return length


def external_problems(tensor: TensorProto) -> Iterator[str]:
    """Damage in the reference of a tensor to its file of weights. The files are not read."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) < len(tensor.external_data):
        yield f"{tensor.name}: its reference to a file of weights has the same key twice"
    if not entries.get("location"):
        yield f"{tensor.name}: it does not name the file of its data"
    for key in ("offset", "length"):
        text = entries.get(key, "0")
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            yield f"{tensor.name}: its {key} {text!r} is not a number of bytes"
    if entries.get("length", "").isdigit() and int(entries["length"]) != size_bytes(tensor):
        yield f"{tensor.name}: its shape needs {size_bytes(tensor)} bytes, but its length is {entries['length']}"


def graph_problems(graph: onnx.GraphProto, outer: frozenset[str]) -> Iterator[str]:
    weights = [tensor.name for tensor in graph.initializer] + [
        tensor.values.name for tensor in graph.sparse_initializer
    ]
    inputs = [value.name for value in graph.input]
    where = f"graph {graph.name}" if outer else "the graph"
    for what, names in (("initializers", weights), ("inputs", inputs)):
        if len(names) > len(set(names)):
            yield f"{where}: two {what} have the same name"
    known = {*outer, *weights, *inputs}
    yield from scope_problems(graph.node, known, where)
    yield from (f"output {value.name}: no node computes it" for value in graph.output if value.name not in known)


def scope_problems(nodes: Iterable[onnx.NodeProto], known: set[str], where: str) -> Iterator[str]:
    """Values that a node reads before another node computes them, and values computed twice. Adds to `known`."""
    computed: set[str] = set()
    for node in nodes:
        if not node.op_type:
            yield f"{node.name or where}: a node has no operator"
        yield from (
            f"{node.name or node.op_type}: it reads {name}, which no earlier node computes"
            for name in node.input
            if name and name not in known
        )
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.HasField("g") else [*attribute.graphs]
            for graph in graphs:
                yield from graph_problems(graph, frozenset(known))
        for name in filter(None, node.output):
            if name in computed:
                yield f"{node.name or node.op_type}: it computes {name}, but another node computes it too"
            computed.add(name)
        known.update(filter(None, node.output))
